/** The operators' routes of a gateway, as far as tests need them. */
import { setTimeout as sleep } from "node:timers/promises";
import type { StatusJson } from "#gateway/admin/status.ts";

const TIMEOUT_MS = 5_000;
const PATIENCE_MS = 2_000;
const POLL_MS = 500;

export type AdminAnswer = {
  /** 0 when there was no answer. */
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
};

export async function adminRequest(
  url: string,
  method: "GET" | "POST" | "DELETE",
  path: string,
  body?: object,
): Promise<AdminAnswer> {
  try {
    const response = await fetch(`${url}${path}`, {
      method,
      headers: {
        "Minikv-Timeout": `${TIMEOUT_MS}ms`,
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(TIMEOUT_MS + PATIENCE_MS),
    });
    const text = await response.text();
    return { status: response.status, body: text === "" ? {} : JSON.parse(text) };
  } catch {
    return { status: 0, body: {} };
  }
}

/** As the leader of the meta group sees it; undefined when it does not answer. */
export async function clusterStatus(
  url: string,
  withGroups = false,
): Promise<StatusJson | undefined> {
  const path = withGroups ? "/admin/status?groups=1" : "/admin/status";
  const { status, body } = await adminRequest(url, "GET", path);
  const found = body as Partial<StatusJson>;
  return status === 200 && found.source === "meta_leader" ? (found as StatusJson) : undefined;
}

/** Asks until `accept` gives something, or time is over. */
export async function waitForStatus<T>(
  urls: readonly string[],
  timeoutMs: number,
  accept: (status: StatusJson) => T | undefined,
): Promise<T | undefined> {
  const untilMs = performance.now() + timeoutMs;
  for (let turn = 0; performance.now() < untilMs; turn++) {
    const status = await clusterStatus(urls[turn % urls.length]!, true);
    const found = status === undefined ? undefined : accept(status);
    if (found !== undefined) return found;
    await sleep(POLL_MS);
  }
  return undefined;
}

/** The node that leads each vshard, by vshard. */
export function leadersOf(status: StatusJson): ReadonlyMap<number, number> {
  const leaders = new Map<number, number>();
  for (const { group, leader } of status.groups ?? []) {
    if (typeof group === "number" && leader !== null) leaders.set(group, leader);
  }
  return leaders;
}
