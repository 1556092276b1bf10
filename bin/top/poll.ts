/** One look at every gateway: what each tells of itself and of the cluster, or why it does not. */

import { credentialHeader } from "#bin/client-key.ts";
import { fetchTrouble } from "#bin/client-options.ts";
import type { StatusJson } from "#gateway/admin/status.ts";
import type { Look } from "./view.ts";

export type PollOptions = {
  readonly urls: readonly string[];
  readonly timeoutMs: number;
  readonly apiKey: string | undefined;
  /** Ends what is under way. */
  readonly signal: AbortSignal;
};

/** A cluster of the largest size tells less. */
const ANSWER_SIZE_BYTES_MAX = 8 * 1024 * 1024;

/** In the order of the URLs. Never rejects. */
export const pollAll = (options: PollOptions): Promise<readonly Look[]> =>
  Promise.all(
    options.urls.map(async (url): Promise<Look> => {
      try {
        return { url, status: await statusOf(url, options) };
      } catch (error) {
        return { url, error: fetchTrouble(error) };
      }
    }),
  );

async function statusOf(
  url: string,
  { timeoutMs, apiKey, signal }: PollOptions,
): Promise<StatusJson> {
  const response = await fetch(`${url}/admin/status`, {
    headers: {
      // Without a leader of the meta group the gateway then still has time to tell what it knows itself.
      "Minikv-Timeout": `${Math.ceil(timeoutMs / 2)}ms`,
      ...credentialHeader(apiKey),
    },
    redirect: "error",
    signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
  });
  const answer = parsed(await boundedText(response));
  if (response.status !== 200) {
    const { detail, code } = answer ?? {};
    const said = typeof detail === "string" ? detail : `HTTP ${response.status}`;
    throw new Error(typeof code === "string" ? `${said} (${code})` : said);
  }
  if (!isStatus(answer)) throw new Error("does not answer like a minikv gateway");
  return answer;
}

async function boundedText(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body ?? []) {
    size += chunk.length;
    if (size > ANSWER_SIZE_BYTES_MAX) throw new Error("the answer is too large");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function parsed(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null;

function isStatus(answer: unknown): answer is StatusJson {
  if (!isObject(answer)) return false;
  const { nodes, moves, vshards, meta } = answer;
  return (
    Array.isArray(nodes) &&
    nodes.every(isObject) &&
    Array.isArray(moves) &&
    isObject(meta) &&
    isObject(vshards) &&
    Array.isArray(vshards.without_quorum)
  );
}
