/** Reads what `/metrics` tells, for tests. */
import { spawnSync } from "node:child_process";
import { expect } from "vitest";
import { findProgram } from "#test/processes/programs.ts";

export class Scrape {
  readonly text: string;
  /** Series by name and labels, as written. */
  readonly series: ReadonlyMap<string, number>;

  constructor(text: string) {
    this.text = text;
    const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
    this.series = new Map(
      lines.map((line) => {
        const end = line.lastIndexOf(" ");
        return [line.slice(0, end), Number(line.slice(end + 1))];
      }),
    );
  }

  /** The sum of the series of a name that have all of these labels. */
  sum(name: string, labels: Readonly<Record<string, string>> = {}): number {
    let sum = 0;
    for (const [series, value] of this.series) {
      if (series !== name && !series.startsWith(`${name}{`)) continue;
      const has = Object.entries(labels).every(([key, text]) =>
        series.includes(`${key}=${JSON.stringify(text)}`),
      );
      if (has) sum += value;
    }
    return sum;
  }
}

export async function scrape(url: string, init: RequestInit = {}): Promise<Scrape> {
  const answer = await fetch(`${url}/metrics`, init);
  expect(answer.status).toBe(200);
  return new Scrape(await answer.text());
}

/** What promtool has to say against it; nothing is all right. */
export function lint({ text }: Scrape): string {
  const { stdout, stderr, status } = spawnSync(findProgram("promtool")!, ["check", "metrics"], {
    input: text,
    encoding: "utf8",
    timeout: 20_000,
  });
  return status === 0 ? "" : `${stdout}${stderr}`;
}
