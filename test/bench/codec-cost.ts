/**
 * What compression and encryption cost per value, without a server around them: `node
 * test/bench/codec-cost.ts`. The figures stand in docs/benchmarks.md.
 *
 * Ciphers are objects of native code, which are freed when the event loop turns. So the loop turns
 * between groups of values, as it does between requests.
 */
import { setImmediate as turn } from "node:timers/promises";
import { DataKeys } from "#gateway/codec/data-keys.ts";
import { type MasterKeys, masterKeyLine, parseMasterKeys } from "#gateway/codec/master-keys.ts";
import { ValueCodec } from "#gateway/codec/value-codec.ts";
import { MemoryDirectory } from "#gateway/testing/memory-directory.ts";
import { utf8 } from "#shared/bytes.ts";
import { systemClock } from "#shared/clock.ts";
import { DEFAULT_TENANT } from "#shared/ids.ts";
import { systemRandom } from "#shared/random.ts";

const ROUNDS = 5;
const GROUP = 10;
const ref = { tenant: DEFAULT_TENANT, key: utf8("user/0123456789") };
const clock = systemClock();
const random = systemRandom();

function codecWith(masterKeys: MasterKeys | undefined, compressAboveBytes: number): ValueCodec {
  const keys = new DataKeys({ directory: new MemoryDirectory(), masterKeys, clock, random });
  return new ValueCodec({ keys, compressAboveBytes });
}

/** Microseconds for one call, of the best round. */
async function costUs(run: () => unknown, calls: number): Promise<number> {
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round++) {
    let ms = 0;
    for (let done = 0; done < calls; done += GROUP) {
      const startMs = performance.now();
      for (let i = 0; i < GROUP; i++) await run();
      ms += performance.now() - startMs;
      await turn();
    }
    best = Math.min(best, (ms * 1_000) / calls);
  }
  return best;
}

function textOf(size: number): Uint8Array {
  const rows = Array.from({ length: size / 10 }, (_, id) => ({ id, name: `user ${id * 7}` }));
  return utf8(JSON.stringify(rows)).subarray(0, size);
}

const masterKeys = parseMasterKeys(masterKeyLine(random));
const codecs = [
  ["encrypted", codecWith(masterKeys, 0)],
  ["compressed", codecWith(undefined, 512)],
  ["both", codecWith(masterKeys, 512)],
] as const;
process.stdout.write("bytes    value  codec       stored      put us      get us\n");
for (const size of [256, 1_024, 16_384, 65_536, 1_048_576]) {
  const calls = size > 60_000 ? 100 : 5_000;
  for (const [kind, value] of [
    ["text", textOf(size)],
    ["noise", random.fill(new Uint8Array(size))],
  ] as const) {
    for (const [name, codec] of codecs) {
      const deadlineMs = clock.nowMs() + 60_000;
      const { value: bytes, encoding } = await codec.seal(ref, value, deadlineMs);
      const stored = { value: bytes, encoding, valueSizeBytes: size };
      const putUs = await costUs(() => codec.seal(ref, value, deadlineMs), calls);
      const getUs = await costUs(() => codec.open(ref, stored, deadlineMs), calls);
      const row = [String(size).padEnd(8), kind.padEnd(6), name.padEnd(11)];
      row.push(String(bytes.length).padEnd(9), putUs.toFixed(1).padStart(8));
      process.stdout.write(`${row.join(" ")} ${getUs.toFixed(1).padStart(11)}\n`);
    }
  }
}
