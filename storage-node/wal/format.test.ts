/** The example in docs/formats/wal.md: format 3, frozen. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ManualClock } from "#shared/clock.ts";
import { MemoryFileSystem } from "./memory-file-system.ts";
import { segmentName } from "./recover.ts";
import {
  appendDurably,
  DIRECTORY,
  entries,
  entry,
  GROUP,
  hardState,
  NODE,
  openTestLog,
  REPLICA,
  snapshot,
} from "./test-support.ts";
import { openWal } from "./wal.ts";

const PATH = `${DIRECTORY}/${segmentName(1)}`;

/** The segment that the example describes. */
async function documentedSegment(): Promise<Uint8Array> {
  const page = join(import.meta.dirname, "../../docs/formats/wal.md");
  const text = await readFile(page, "utf8");
  const block = (name: string): Uint8Array => {
    const found = new RegExp(`\`\`\`hex ${name}\n([^\`]*)\`\`\``).exec(text)?.[1];
    return Uint8Array.fromHex((found ?? "").replaceAll(/\s/g, ""));
  };
  const segment = new Uint8Array(8192);
  segment.set(block("header"), 0);
  segment.set(block("batches"), 4096);
  return segment;
}

describe("docs/formats/wal.md", () => {
  it("shows the bytes that are written", async () => {
    const fs = new MemoryFileSystem();
    const wal = await openWal({
      directory: DIRECTORY,
      nodeId: NODE,
      segmentSizeBytes: 8192,
      fs,
      clock: new ManualClock(),
      random: { float: () => 0, below: () => 0x0102_0304, fill: (target) => target },
      onFatal: (error) => {
        throw error;
      },
    });
    const list = [entries(entry(1, "hi"), entry(2, "")), hardState(1, 1, 0)];
    await appendDurably(wal, snapshot(0, 0), ...list);
    await wal.close();
    expect(fs.content(PATH)).toEqual(await documentedSegment());
  });

  it("shows bytes that can be read", async () => {
    const fs = new MemoryFileSystem();
    fs.put(PATH, await documentedSegment());
    const { wal } = await openTestLog({ fs });
    expect(wal.recovery).toMatchObject({ created: false, tornTail: false, segments: 1 });
    expect(wal.recovery.groups.get(GROUP)).toEqual({
      replica: REPLICA,
      hardState: { term: 1, vote: 1, commit: 0 },
      start: { index: 0, term: 0 },
      configuration: snapshot(0).configuration,
      entries: [entry(1, "hi"), entry(2, "")],
    });
  });
});
