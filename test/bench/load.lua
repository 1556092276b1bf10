-- The requests of one wrk thread, drawn at random from prepared pieces.
--
-- Knows neither server: wrk.ts has cut the requests of either around the key, and all that is done
-- here per request is to draw a key and a value and to join three strings.
--
-- Arguments: directory of the pieces, share of writes (0 to 1), seed, length of a key's text in
-- bytes, number of values.

local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

local random, sub = math.random, string.sub
local share, width, keys, key_last
local put_head, put_tails, get_head, get_tail

local function read(directory, name)
  local file = assert(io.open(directory .. "/" .. name, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

function init(args)
  local directory = args[1]
  share = tonumber(args[2])
  math.randomseed(tonumber(args[3]) + number)
  width = tonumber(args[4])
  keys = read(directory, "keys")
  key_last = #keys / width - 1
  put_head = read(directory, "put-head")
  put_tails = {}
  for i = 1, tonumber(args[5]) do
    put_tails[i] = read(directory, "put-tail-" .. i)
  end
  get_head = read(directory, "get-head")
  get_tail = read(directory, "get-tail")
end

function request()
  local start = random(0, key_last) * width
  local key = sub(keys, start + 1, start + width)
  if share == 1 or (share > 0 and random() < share) then
    return put_head .. key .. put_tails[random(1, #put_tails)]
  end
  return get_head .. key .. get_tail
end

-- One line for wrk.ts. Durations are in microseconds.
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"duration":%d,"p50":%d,"p90":%d,"p99":%d,"p999":%d,"max":%d,' ..
    '"status":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(90),
    latency:percentile(99), latency:percentile(99.9), latency.max,
    errors.status, errors.connect, errors.read, errors.write, errors.timeout))
end
