/** Parsers of values in storage, of the keys that they are encrypted with, and of audit logs. */
import { CHAIN_START, chained, placeOf } from "#gateway/audit/entry.ts";
import { ChainVerifier } from "#gateway/audit/verify.ts";
import { readDataKeyRow } from "#gateway/codec/data-key-rows.ts";
import { SEALED_ENCODING } from "#gateway/codec/envelope.ts";
import { masterKeyLine, parseMasterKeys } from "#gateway/codec/master-keys.ts";
import { refOf, World } from "#gateway/codec/testing.ts";
import { equalBytes, readUint32, utf8, writeUint32 } from "#shared/bytes.ts";
import { SeededRandom } from "#shared/random.ts";
import {
  accepted,
  Broken,
  type FuzzTarget,
  holds,
  kvError,
  noError,
  textSamples,
  utf8Text,
} from "#test/fuzz/target.ts";

const REF = refOf("k");
/** Longer than a gateway waits for a key that it has not heard of. */
const WAIT_MS = 5_000;

type Sealed = Awaited<ReturnType<typeof sealSome>>;
let sealed: Promise<Sealed> | undefined;

/** Values as two gateways store them, one that encrypts and one that only compresses. */
async function sealSome() {
  const world = new World();
  const encrypting = world.gateway();
  const compressing = new World().gateway("none");
  const plain = [utf8("short"), utf8("long ".repeat(300)), new Uint8Array(0)];
  const inputs: Uint8Array[] = [];
  for (const { codec } of [encrypting, compressing]) {
    for (const value of plain) {
      const stored = await codec.seal(REF, value, world.options.deadlineMs);
      if (stored.encoding !== SEALED_ENCODING) continue;
      const input = new Uint8Array(4 + stored.value.length);
      writeUint32(input, 0, value.length);
      input.set(stored.value, 4);
      inputs.push(input);
    }
  }
  return { world, codec: encrypting.codec, plain, inputs };
}

const envelope: FuzzTarget = {
  name: "value-envelope",
  isAsync: true,
  // They are made with the first use: an input says which of them, and what is changed in it.
  samples: (seed) => {
    const random = new SeededRandom(seed);
    const change = (at: number) => random.fill(new Uint8Array(1 + 3 * (at % 5)));
    return Array.from({ length: 40 }, (_, at) => change(at));
  },
  check: async (input) => {
    sealed ??= sealSome();
    const { world, codec, plain, inputs } = await sealed;
    const stored = changed(input, inputs);
    if (stored.length < 4) return false;
    const valueSizeBytes = readUint32(stored, 0);
    const value = stored.subarray(4);
    let opened: Uint8Array;
    try {
      const { deadlineMs } = world.options;
      const answer = codec.open(
        REF,
        { value, encoding: SEALED_ENCODING, valueSizeBytes },
        deadlineMs,
      );
      world.clock.advance(WAIT_MS);
      opened = await answer;
    } catch (error) {
      if (isDocumented(error)) return false;
      throw new Broken(`an error that is not documented: ${String(error)}`, { cause: error });
    }
    holds(opened.length === valueSizeBytes, "a value has the size that storage says");
    const isEncrypted = (value[0]! & 2) !== 0;
    holds(!isEncrypted || plain.some((one) => equalBytes(one, opened)), "only what was sealed");
    return true;
  },
};

const isDocumented = kvError("DATA_CORRUPT", "ENCRYPTION_KEY_MISSING", "UNAVAILABLE");

/** One of the stored values, with bytes of the input in place of some of its own. */
function changed(input: Uint8Array, inputs: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(inputs[(input[0] ?? 0) % inputs.length]!);
  for (let at = 1; at + 2 < input.length; at += 3) {
    const draw = (input[at]! << 8) | input[at + 1]!;
    // The head decides most: it is changed more often than its share.
    const position = draw % (draw % 2 === 0 ? Math.min(48, bytes.length) : bytes.length);
    bytes[position] = input[at + 2]!;
  }
  return input.length % 3 === 2 ? bytes.subarray(0, bytes.length - (input.at(-1)! % 40)) : bytes;
}

const masterKeys: FuzzTarget = {
  name: "master-keys",
  samples: (seed) => {
    const random = new SeededRandom(seed);
    const lines = Array.from({ length: 3 }, () => masterKeyLine(random));
    return [lines.join("\n"), `# ${lines[0]}\n\n${lines[1]}\n`, lines.join(",")].map(utf8);
  },
  words: [":", ",", "\n", "#", "=", "mk-1:", " "],
  check: (input) => {
    const isDescribed = (error: unknown) => error instanceof Error && error.constructor === Error;
    const keys = accepted(isDescribed, () => parseMasterKeys(utf8Text(input)))?.value;
    if (keys === undefined) return false;
    const purpose = { scope: "s", name: "n" };
    const secret = Uint8Array.of(1, 2, 3);
    const wrapped = keys.wrap(purpose, secret, new SeededRandom(1));
    holds(equalBytes(keys.unwrap(purpose, wrapped), secret), "what is wrapped is unwrapped");
    return true;
  },
};

const dataKeyRow: FuzzTarget = {
  name: "data-key-row",
  samples: () => [
    Uint8Array.of(0x08, 1, 0x10, 2, 0x1a, 3, 7, 8, 9, 0x22, 2, 0x6d, 0x31, 0x28, 5),
    Uint8Array.of(0x08, 1, 0x10, 2),
  ],
  check: (input) => {
    const row = { name: "data-key/00000001/00000002", value: input, revision: 1 };
    const record = accepted(kvError("DATA_CORRUPT"), () => readDataKeyRow(row))?.value;
    if (record === undefined) return false;
    holds(record.tenantId === 1 && record.number === 2, "a row of its own key");
    return true;
  },
};

const LOG = ["a", "b", "c"].reduce(
  ({ lines, end }, request) => {
    const entry = { time: "2026-01-01T00:00:00Z", gateway: "g", event: "admin", request } as const;
    const next = chained(entry, end);
    return { lines: [...lines, next.line], end: next.end };
  },
  { lines: [] as string[], end: CHAIN_START },
);
const LOG_TEXT = `${LOG.lines.join("\n")}\n`;

const auditLog: FuzzTarget = {
  name: "audit-log",
  samples: textSamples(LOG_TEXT, `${LOG.lines[0]}\n`, `${LOG.lines.slice(1).join("\n")}\n`),
  words: ["\n", '"seq":1', '"prev":"', "0".repeat(64), "{}", `${LOG.lines[1]}\n`, "null"],
  check: (input) => {
    const text = utf8Text(input);
    const verifier = new ChainVerifier({ flawsMax: 10, anchor: LOG.end.hash });
    const lines = text.split("\n");
    const rest = lines.pop()!;
    accepted(noError, () => {
      lines.forEach((line, at) => {
        verifier.add("f", at + 1, line);
        placeOf(line);
      });
      if (rest !== "") verifier.add("f", lines.length + 1, rest, false);
    });
    const { flaws, anchoredSeq, fromStart } = verifier.verdict();
    if (flaws.length > 0 || anchoredSeq === undefined || !fromStart) return false;
    // What may follow the anchor is not vouched for; what stands before it is.
    holds(text.startsWith(LOG_TEXT), "no line before the anchor was changed");
    return true;
  },
};

export const VALUE_TARGETS: readonly FuzzTarget[] = [envelope, masterKeys, dataKeyRow, auditLog];
