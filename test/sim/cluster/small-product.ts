/**
 * Makes the product small in a process of the simulator: few vshards, so that a run costs milliseconds per
 * simulated second, and short logs and chunks, so that snapshots are needed and have several. These are
 * constants which nothing can change in the product; here the text of the modules that hold them is changed
 * as they are loaded. To be called before anything of the product is imported.
 */
import { registerHooks } from "node:module";

type Edit = readonly [constant: string, value: string, instead: string];

const edits = (vshards: number): Readonly<Record<string, readonly Edit[]>> => ({
  "/shared/ids.ts": [["VSHARD_COUNT", "256", String(vshards)]],
  "/shared/limits.ts": [
    ["LOG_RETAINED_BYTES_PER_GROUP", "1 * MiB", "4 * KiB"],
    ["LOG_RETAINED_BYTES_PER_FOLLOWER", "64 * KiB", "2 * KiB"],
    ["LOG_RETAINED_BYTES_BEHIND_SNAPSHOT", "64 * MiB", "16 * KiB"],
    ["LOG_RETAINED_BEHIND_SNAPSHOT_MS", "60_000", "5_000"],
    ["SNAPSHOT_CHUNK_BYTES_SOFT_MAX", "256 * KiB", "1 * KiB"],
    ["CAUGHT_UP_ENTRIES_MAX", "256", "4"],
  ],
  "/shared/limits-changes.ts": [
    ["CHANGE_LOG_REVISIONS_KEPT", "65_536", "16"],
    ["CHANGE_LOG_REVISIONS_PER_LOOK", "1_024", "8"],
  ],
});

export function makeProductSmall({ vshards }: { readonly vshards: number }): void {
  const all = Object.entries(edits(vshards));
  registerHooks({
    load: (url, context, nextLoad) => {
      const loaded = nextLoad(url, context);
      const found = all.find(([module]) => url.endsWith(module));
      if (found === undefined) return loaded;
      return { ...loaded, source: edited(loaded.source?.toString() ?? "", found[1], url) };
    },
  });
}

function edited(source: string, wanted: readonly Edit[], url: string): string {
  let text = source;
  for (const [constant, value, instead] of wanted) {
    const line = `export const ${constant} = ${value};`;
    if (!text.includes(line)) throw new Error(`${url} does not contain: ${line}`);
    text = text.replace(line, `export const ${constant} = ${instead};`);
  }
  return text;
}
