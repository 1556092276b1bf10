-- The requests of one wrk thread, drawn at random from prepared pieces.
--
-- Knows neither server: wrk.ts has cut the requests of either around the keys, and all that is done
-- here per request is to draw keys and a value and to join strings.
--
-- Arguments: directory of the pieces, share of writes (0 to 1), seed, length of a key's text in
-- bytes, number of values, number of keys in a batch (0: requests are about one key), text that a
-- batch's answer has in it when a part of it failed.

local list = {}

function setup(thread)
  thread:set("number", #list)
  table.insert(list, thread)
end

local random, sub, find = math.random, string.sub, string.find
local share, width, keys, key_last
local put_head, put_tails, get_head, get_tail
local batch_keys, batches, failure
failed = 0

local function read(directory, name)
  local file = assert(io.open(directory .. "/" .. name, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

local function split(text)
  local pieces, from = {}, 1
  while true do
    local at = find(text, "\0", from, true)
    table.insert(pieces, sub(text, from, (at or 0) - 1))
    if not at then return pieces end
    from = at + 1
  end
end

local function key_at(index)
  return sub(keys, index * width + 1, (index + 1) * width)
end

local function batch()
  local pieces = batches[random(1, #batches)]
  local start, step = random(0, key_last), math.floor((key_last + 1) / batch_keys)
  local parts = { pieces[1] }
  for i = 1, batch_keys do
    parts[2 * i] = key_at((start + (i - 1) * step) % (key_last + 1))
    parts[2 * i + 1] = pieces[i + 1]
  end
  return table.concat(parts)
end

local function check(status, headers, body)
  if find(body, failure, 1, true) then failed = failed + 1 end
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
  batches = {}
  batch_keys = tonumber(args[6])
  failure = args[7]
  for i = 1, tonumber(args[5]) do
    put_tails[i] = read(directory, "put-tail-" .. i)
    if batch_keys > 0 then batches[i] = split(read(directory, "batch-" .. i)) end
  end
  get_head = read(directory, "get-head")
  get_tail = read(directory, "get-tail")
  -- Looking at each answer costs wrk time, so it does only where the status does not tell all.
  if batch_keys > 0 then response = check end
end

function request()
  if batch_keys > 0 then return batch() end
  local key = key_at(random(0, key_last))
  if share == 1 or (share > 0 and random() < share) then
    return put_head .. key .. put_tails[random(1, #put_tails)]
  end
  return get_head .. key .. get_tail
end

-- One line for wrk.ts. Durations are in microseconds.
function done(summary, latency)
  local errors = summary.errors
  local status = errors.status
  for _, thread in ipairs(list) do status = status + thread:get("failed") end
  io.write(string.format(
    'RESULT {"requests":%d,"duration":%d,"p50":%d,"p90":%d,"p99":%d,"p999":%d,"max":%d,' ..
    '"status":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(90),
    latency:percentile(99), latency:percentile(99.9), latency.max,
    status, errors.connect, errors.read, errors.write, errors.timeout))
end
