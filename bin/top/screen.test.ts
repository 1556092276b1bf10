import { describe, expect, it } from "vitest";
import { nextSort, type ScreenOptions, SORTS, type Sort, screenOf } from "./screen.ts";
import { answer, type NodeInput } from "./testing.ts";
import { type Look, nextState, type TopState, viewOf } from "./view.ts";

const ONE = "http://127.0.0.1:8080";
const TWO = "http://127.0.0.1:8081";

/** Two looks, a second apart, at nodes that have done `work` in between. */
function stateOf(work: readonly NodeInput[], second: Partial<Look> = {}): TopState {
  const before = work.map(({ id = 1 }) => ({ id, uptimeMs: 500 }));
  const after = work.map((node) => ({ uptimeMs: 1_500, ...node }));
  const first = nextState(
    undefined,
    [
      { url: ONE, status: answer(before, {}, 0, 100) },
      { url: TWO, status: answer(before, {}, 0, 100) },
    ],
    0,
  );
  const looks = [
    { url: ONE, status: answer(after, {}, 1_234, 1_100) },
    { url: TWO, status: answer(after, {}, 7, 1_100), ...second },
  ] as readonly Look[];
  return nextState(first, looks, 1_000);
}

function screen(state: TopState, options: Partial<ScreenOptions> = {}) {
  const usual = { columns: 200, rows: 40, sort: "node", intervalMs: 1_000 } as const;
  return screenOf(viewOf(state), { ...usual, time: "12:00:01", ...options });
}

const textOf = (lines: ReturnType<typeof screenOf>): string =>
  `\n${lines.map(({ text }) => text).join("\n")}\n`;

const WORK: readonly NodeInput[] = [
  { id: 1, gets: 1_000, puts: 50, leaders: 80 },
  { id: 2, gets: 3, puts: 700, leaders: 90, lag_entries_max: 12 },
  { id: 3, gets: 0, puts: 0, leaders: 86 },
];

describe("screenOf()", () => {
  it("shows gateways and nodes with the rates of the time in between", () => {
    expect(textOf(screen(stateOf(WORK)))).toMatchInlineSnapshot(`
      "
      minikv top   cluster east   12:00:01, every 1 s, by node
      nodes    3 of 3 answer, meta group led by 2, map 42
      vshards  256, without leader 0, without quorum 0, moving 0, 12,345 keys, 5.0 MiB
      total    1,003 reads/s, 750 writes/s, 0 scans/s, 0 failed/s, 24 watchers

      GATEWAY                REQ/S  5XX/S      P50      P99  UNDER WAY  CONNS  WATCHERS  WATCH LAG
      http://127.0.0.1:8080  1,234      0  5.50 ms  9.91 ms          3     40        12      25 ms
      http://127.0.0.1:8081    7.0      0  5.50 ms  9.91 ms          3     40        12      25 ms

      NODE  ADDRESS        STATE  LEADS  HOLDS  READS/S  WRITES/S  SCANS/S  FAILED/S  READ P50  READ P99  WRITE P50  WRITE P99  SYNC P99  UNAPPLIED  LAG     USED
         1  10.0.0.1:7400  up        80    257    1,000        50        0         0   0.50 ms   0.99 ms    5.50 ms    9.91 ms   9.91 ms          0    0  1.5 GiB
         2  10.0.0.2:7400  up        90    257      3.0       700        0         0   0.50 ms   0.99 ms    5.50 ms    9.91 ms   9.91 ms          0   12  1.5 GiB
         3  10.0.0.3:7400  up        86    257        0         0        0         0         -         -          -          -         -          0    0  1.5 GiB
      "
    `);
  });

  it("shows a gateway that is gone, a node that is silent and one that is full", () => {
    const state = stateOf(
      [
        { id: 1, answering: false },
        { id: 2, writable: false },
      ],
      { status: undefined as never, error: "connect ECONNREFUSED" } as Partial<Look>,
    );
    const lines = screen({ ...state, atMs: 11_000, statusAtMs: 11_000 });
    expect(textOf(lines)).toMatchInlineSnapshot(`
      "
      minikv top   cluster east   12:00:01, every 1 s, by node
      nodes    1 of 2 answer, meta group led by 2, map 42
      vshards  256, without leader 0, without quorum 0, moving 0, 12,345 keys, 5.0 MiB
      total    0 reads/s, 0 writes/s, 0 scans/s, 0 failed/s, 12 watchers

      GATEWAY                REQ/S  5XX/S      P50      P99  UNDER WAY  CONNS  WATCHERS  WATCH LAG
      http://127.0.0.1:8080  1,234      0  5.50 ms  9.91 ms          3     40        12      25 ms
      http://127.0.0.1:8081  no answer for 10 s: connect ECONNREFUSED

      NODE  ADDRESS        STATE       LEADS  HOLDS  READS/S  WRITES/S  SCANS/S  FAILED/S  READ P50  READ P99  WRITE P50  WRITE P99  SYNC P99  UNAPPLIED  LAG     USED
         1  10.0.0.1:7400  up, SILENT     86    257        -         -        -         -         -         -          -          -         -          -    0  1.5 GiB
         2  10.0.0.2:7400  up, FULL       86    257        0         0        0         0         -         -          -          -         -          0    0  1.5 GiB
      "
    `);
    expect(lines.filter(({ style }) => style === "bad").length).toBe(4);
  });

  it("shows the cluster as it was while no gateway answers", () => {
    const looks = [ONE, TWO].map((url) => ({ url, error: "it took too long" }));
    const lines = screen(nextState(stateOf(WORK), looks, 13_000));
    expect(textOf(lines)).toContain("no gateway answers; nodes as 12 s ago");
    expect(textOf(lines)).toContain("10.0.0.3:7400");
  });

  it("says so when it knows nothing", () => {
    const lines = screen(nextState(undefined, [{ url: ONE, error: "no" }], 0), { columns: 60 });
    expect(textOf(lines)).toMatchInlineSnapshot(`
      "
      minikv top   12:00:01, every 1 s, by node
      no gateway has told of the cluster yet

      GATEWAY                REQ/S  5XX/S  P50  P99  WATCHERS
      http://127.0.0.1:8080  no answer for 0 s: no

      NODE  STATE  LEADS  READS/S  WRITES/S  WRITE P99  LAG
      "
    `);
  });

  it("leaves out columns that do not fit, and never exceeds the size", () => {
    expect(textOf(screen(stateOf(WORK), { columns: 80 }))).toMatchInlineSnapshot(`
      "
      minikv top   cluster east   12:00:01, every 1 s, by node
      nodes    3 of 3 answer, meta group led by 2, map 42
      vshards  256, without leader 0, without quorum 0, moving 0, 12,345 keys, 5.0 MiB
      total    1,003 reads/s, 750 writes/s, 0 scans/s, 0 failed/s, 24 watchers

      GATEWAY                REQ/S  5XX/S      P50      P99  WATCHERS  WATCH LAG
      http://127.0.0.1:8080  1,234      0  5.50 ms  9.91 ms        12      25 ms
      http://127.0.0.1:8081    7.0      0  5.50 ms  9.91 ms        12      25 ms

      NODE  STATE  LEADS  READS/S  WRITES/S  READ P99  WRITE P99  SYNC P99  LAG
         1  up        80    1,000        50   0.99 ms    9.91 ms   9.91 ms    0
         2  up        90      3.0       700   0.99 ms    9.91 ms   9.91 ms   12
         3  up        86        0         0         -          -         -    0
      "
    `);
    for (const columns of [1, 20, 41, 79, 120]) {
      for (const rows of [1, 2, 7, 24]) {
        const lines = screen(stateOf(WORK), { columns, rows });
        expect(lines.length).toBeLessThanOrEqual(rows);
        expect(Math.max(...lines.map(({ text }) => text.length))).toBeLessThanOrEqual(columns);
      }
    }
  });

  it("says how many lines it leaves out", () => {
    const lines = screen(stateOf(WORK), { rows: 8 });
    expect(lines.at(-1)!.text).toBe("6 more lines");
  });

  it("shows nothing that a terminal could take for a command", () => {
    const evil = [{ id: 1, address: "\u001b]0;gone\u0007\u009b2J" }];
    for (const { text } of screen(stateOf(evil))) expect(text).toMatch(/^[ -~]*$/);
  });
});

describe("sorting", () => {
  const firstOf = (sort: ScreenOptions["sort"]): string =>
    screen(stateOf(WORK), { sort })
      .map(({ text }) => text)
      .find((text) => /^ +\d/.test(text))!
      .trim()[0]!;

  it.each([
    ["node", "1"],
    ["leaders", "2"],
    ["reads", "1"],
    ["writes", "2"],
    ["lag", "2"],
  ] as const)("by %s shows node %s first", (sort, node) => {
    expect(firstOf(sort)).toBe(node);
  });

  it("comes round", () => {
    let sort: Sort = SORTS[0];
    const seen = SORTS.map(() => (sort = nextSort(sort)));
    expect(seen).toEqual([...SORTS.slice(1), SORTS[0]]);
  });
});
