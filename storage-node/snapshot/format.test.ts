/** The example in docs/formats/snapshot.md: format 1, frozen. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { toGroupId, toLogIndex, toReplicaId, toTerm } from "#shared/ids.ts";
import { simpleConfiguration } from "#storage-node/raft/configuration.ts";
import {
  decodeFrame,
  encodeFrame,
  encodeRows,
  type Frame,
  rowBytesOf,
  rowSizeBytes,
  Verdict,
} from "./frames.ts";

const ROW = { key: new Uint8Array([5, 0, 5]), value: new Uint8Array([1, 2]) };
const CHUNK = encodeRows(0, [ROW], rowSizeBytes(ROW));

const FRAMES = {
  open: {
    kind: "open",
    transfer: new Uint8Array(16).fill(0xab),
    group: toGroupId(5),
    from: toReplicaId(1),
    to: toReplicaId(2),
    term: toTerm(3),
    snapshotIndex: toLogIndex(2),
    snapshotTerm: toTerm(1),
    configuration: simpleConfiguration([toReplicaId(1), toReplicaId(2)]),
  },
  end: {
    kind: "end",
    chunks: 1,
    rows: 1,
    hash: new Uint8Array(createHash("sha256").update(rowBytesOf(CHUNK)).digest()),
    term: toTerm(3),
  },
  next: { kind: "next", sequence: 1 },
  over: { kind: "over", verdict: Verdict.Received },
} as const satisfies Record<string, Frame>;

async function documented(name: string): Promise<string> {
  const page = join(import.meta.dirname, "../../docs/formats/snapshot.md");
  const text = await readFile(page, "utf8");
  const found = new RegExp(`\`\`\`hex ${name}\n([^\`]*)\`\`\``).exec(text)?.[1];
  return (found ?? "").replaceAll(/\s/g, "");
}

describe("docs/formats/snapshot.md", () => {
  it.each(Object.entries(FRAMES))("shows the bytes of the frame %s", async (name, frame) => {
    const hex = await documented(name);
    expect(Buffer.from(encodeFrame(frame)).toString("hex")).toBe(hex);
    expect(encodeFrame(decodeFrame(Uint8Array.fromHex(hex)) as typeof frame)).toEqual(
      encodeFrame(frame),
    );
  });

  it("shows the bytes of a chunk", async () => {
    const hex = await documented("rows");
    expect(Buffer.from(CHUNK).toString("hex")).toBe(hex);
    expect(decodeFrame(Uint8Array.fromHex(hex))).toMatchObject({ kind: "rows", sequence: 0 });
  });
});
