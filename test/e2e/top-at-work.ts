/** `minikv top --once --json` in front of a deployment at work. */
import { expect } from "vitest";
import type { TopView } from "#bin/top/view.ts";
import { spawnMinikv } from "./harness.ts";

/**
 * What it shows when it has seen every gateway and every node do something, followers too. On a busy machine nothing
 * may have ended within its interval: then it is asked again.
 */
export async function topAtWork(args: readonly string[]): Promise<TopView> {
  let view: TopView | undefined;
  const idle = async (): Promise<readonly string[]> => {
    const top = spawnMinikv(["top", ...args]);
    const { code } = await top.waitForExit();
    expect([code, top.stderr]).toEqual([0, ""]);
    view = JSON.parse(top.stdout) as TopView;
    const { total, gateways, nodes } = view;
    const figures = {
      reads: [total.reads_per_second],
      writes: [total.writes_per_second],
      requests: gateways.map(({ requests_per_second: requests }) => requests),
      syncs: nodes.map(({ sync_p99_ms: syncs }) => syncs),
    };
    return Object.entries(figures).flatMap(([name, values]) =>
      values.every((value) => value !== null && value > 0) ? [] : [name],
    );
  };
  await expect.poll(idle, { timeout: 120_000, interval: 50 }).toEqual([]);
  return view!;
}
