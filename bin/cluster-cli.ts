/**
 * `minikv cluster …`: asks a gateway for the state of the cluster, and for changes of it, over the
 * same routes below `/admin` that anybody else may use.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { StatusJson } from "#gateway/admin/status.ts";
import { EXIT_FAILURE, EXIT_USAGE } from "#shared/runtime/shutdown.ts";
import { clientKey, credentialHeader } from "./client-key.ts";
import { fetchTrouble } from "./client-options.ts";
import {
  type ClusterCommand,
  type ClusterOptions,
  parseClusterOptions,
} from "./cluster-options.ts";
import { drainText, statusText } from "./cluster-text.ts";

export type ClusterIo = {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly out: (text: string) => void;
  readonly error: (text: string) => void;
  /** Between two looks at a node that drains. */
  readonly pollMs?: number;
  /** Between two lines about it, at least, for people. */
  readonly progressMs?: number;
};

/** Beyond the time that the gateway was given, for the way. */
const ANSWER_GRACE_MS = 5_000;
const POLL_MS_DEFAULT = 1_000;
const PROGRESS_MS_DEFAULT = 5_000;
const DRAIN_SEEN_WITHIN_MS = 10_000;

/** The request was answered with a problem, or not at all. */
class Refused extends Error {
  /** Whether the same request may succeed later. */
  readonly isTemporary: boolean;

  constructor(message: string, isTemporary: boolean) {
    super(message);
    this.isTemporary = isTemporary;
  }
}

/** @returns the exit code */
export async function runClusterCli(argv: readonly string[], io: ClusterIo): Promise<number> {
  const parsed = parseClusterOptions(argv, io.env);
  if (parsed.kind === "help") {
    io.out(parsed.text);
    return 0;
  }
  if (parsed.kind === "wrong") {
    io.error(`minikv cluster: ${parsed.message}\nSee minikv cluster --help.\n`);
    return EXIT_USAGE;
  }
  let apiKey: string | undefined;
  try {
    apiKey = clientKey(io.env, parsed.options.apiKeyFile);
  } catch (error) {
    io.error(`minikv cluster: ${fetchTrouble(error)}\n`);
    return EXIT_USAGE;
  }
  try {
    return await carryOut({ ...parsed.options, apiKey }, io);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    io.error(`minikv cluster: ${error.message}\n`);
    return EXIT_FAILURE;
  }
}

/** With the credential that was found. */
type Asking = ClusterOptions & { readonly apiKey: string | undefined };

async function carryOut(options: Asking, io: ClusterIo): Promise<number> {
  const { command, json } = options;
  if (command.kind === "status") {
    const status = await statusOf(options, json);
    io.out(json ? `${JSON.stringify(status, null, 2)}\n` : statusText(status));
    return 0;
  }
  const answer = (await request(options, routeOf(command))) as ChangeJson;
  io.out(json ? `${JSON.stringify(answer)}\n` : `${detailOf(answer, command)}\n`);
  if ((command.kind !== "drain" && command.kind !== "remove") || !command.waits) return 0;
  return waitForDeparture(options, command, io);
}

type ChangeJson = { readonly detail?: unknown };

const detailOf = ({ detail }: ChangeJson, { kind }: ClusterCommand): string =>
  typeof detail === "string" && detail !== "" ? detail : `${kind}: done`;

type Route = { readonly method: string; readonly path: string; readonly body?: object };

function routeOf(command: Exclude<ClusterCommand, { kind: "status" }>): Route {
  switch (command.kind) {
    case "join":
      return { method: "POST", path: "/admin/nodes", body: { address: command.address } };
    case "drain":
      return { method: "POST", path: `/admin/nodes/${command.node}/drain` };
    case "cancelDrain":
      return { method: "DELETE", path: `/admin/nodes/${command.node}/drain` };
    case "remove":
      return { method: "DELETE", path: `/admin/nodes/${command.node}` };
    case "transfer":
      return {
        method: "POST",
        path: `/admin/vshards/${command.vshard}/transfer`,
        body: { node: command.node },
      };
    case "rebalance":
      return { method: "POST", path: "/admin/rebalance" };
  }
}

async function statusOf(options: Asking, withGroups = false): Promise<StatusJson> {
  const path = withGroups ? "/admin/status?groups=1" : "/admin/status";
  const status = (await request(options, { method: "GET", path })) as Partial<StatusJson>;
  if (!Array.isArray(status.nodes) || !Array.isArray(status.moves)) {
    throw new Refused(`${options.url} does not answer like a minikv gateway`, false);
  }
  return status as StatusJson;
}

type Departure = Extract<ClusterCommand, { kind: "drain" | "remove" }>;

const NOT_ANY_MORE = { drain: "does not drain any more", remove: "is not being removed any more" };
const GOES_ON = {
  drain: "is not empty yet; it goes on draining",
  remove: "is not gone yet; it goes on being removed",
};

/**
 * Until a node is empty, or is removed, shows what is left when that has changed, but not all the time.
 * Failures on the way are shown and borne: all goes on without us.
 */
async function waitForDeparture(
  options: Asking,
  { kind, node: id }: Departure,
  io: ClusterIo,
): Promise<number> {
  const { json, waitTimeoutMs } = options;
  const untilMs = performance.now() + waitTimeoutMs;
  let shown = "";
  let shownMs = Number.NEGATIVE_INFINITY;
  /** The decision may reach the one who shows the status a moment later. */
  let isSeen = false;
  const seenByMs = performance.now() + DRAIN_SEEN_WITHIN_MS;
  const show = (text: string, status: object, isLast = false): void => {
    const nowMs = performance.now();
    const isEarly = nowMs - shownMs < (io.progressMs ?? PROGRESS_MS_DEFAULT);
    if (text === shown || (isEarly && !isLast && !json)) return;
    shown = text;
    shownMs = nowMs;
    io.out(json ? `${JSON.stringify(status)}\n` : `${text}\n`);
  };
  while (performance.now() < untilMs) {
    try {
      const status = await statusOf(options);
      const node = status.nodes.find((one) => one.id === id);
      if (node === undefined) {
        show(`node ${id} is no longer in the cluster`, { node: id, removed: true }, true);
        return 0;
      }
      const text = drainText(node);
      if (node.drain === null || text === undefined) {
        if (!isSeen && performance.now() < seenByMs) throw new Refused("not begun yet", true);
        io.error(`minikv cluster: node ${id} ${NOT_ANY_MORE[kind]}\n`);
        return EXIT_FAILURE;
      }
      isSeen = true;
      const isEmpty = kind === "drain" && node.drain.replicas_left === 0;
      show(text, { node: id, ...node.drain }, isEmpty);
      if (isEmpty) return 0;
    } catch (error) {
      if (!(error instanceof Refused) || !error.isTemporary) throw error;
      show(`waiting: ${error.message}`, { node: id, waiting: error.message });
    }
    await sleep(io.pollMs ?? POLL_MS_DEFAULT);
  }
  io.error(`minikv cluster: node ${id} ${GOES_ON[kind]}\n`);
  return EXIT_FAILURE;
}

const DOUBT = "; it may have been done all the same: see minikv cluster status";

/** @throws Refused */
async function request(
  { url, timeoutMs, apiKey }: Asking,
  { method, path, body }: Route,
): Promise<unknown> {
  let status: number;
  let text: string;
  try {
    const response = await fetch(`${url}${path}`, {
      method,
      headers: {
        "Minikv-Timeout": `${timeoutMs}ms`,
        ...credentialHeader(apiKey),
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(timeoutMs + ANSWER_GRACE_MS),
    });
    ({ status } = response);
    text = await response.text();
  } catch (error) {
    const doubt = method === "GET" || isRefusedConnection(error) ? "" : DOUBT;
    throw new Refused(`${url} does not answer: ${fetchTrouble(error)}${doubt}`, true);
  }
  const answer = parsed(text);
  if (status === 200 && answer !== undefined) return answer;
  const {
    detail = `${url} answers HTTP ${status}${lineOf(text)}`,
    code = "",
    outcome,
    retryable,
  } = answer ?? {};
  const doubt = outcome === "unknown" ? DOUBT : "";
  throw new Refused(
    `${String(detail)}${code === "" ? "" : ` (${String(code)})`}${doubt}`,
    retryable === true,
  );
}

function parsed(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null
      ? (value as Readonly<Record<string, unknown>>)
      : undefined;
  } catch {
    return undefined;
  }
}

/** What answers without JSON is no gateway, or one that speaks HTTPS: its first line says it, without control characters. */
function lineOf(text: string): string {
  const line = /^[^\p{Cc}]{1,200}/u.exec(text.trim())?.[0];
  return line === undefined || line.startsWith("<") ? "" : `: ${line}`;
}

/** Then nothing has been sent. */
const isRefusedConnection = (error: unknown): boolean =>
  error instanceof Error &&
  error.cause instanceof Error &&
  (error.cause as NodeJS.ErrnoException).code === "ECONNREFUSED";
