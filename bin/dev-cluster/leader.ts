/** Which node leads the vshard of a key, as a gateway tells it. */
import { credentialHeader } from "#bin/client-key.ts";
import { utf8 } from "#shared/bytes.ts";
import { KvError } from "#shared/errors.ts";
import { DEFAULT_TENANT, Space, type VshardId } from "#shared/ids.ts";
import { vshardOf } from "#shared/vshard.ts";

const ANSWER_TIMEOUT_MS = 5_000;

/**
 * Asks one gateway after the other.
 *
 * @returns the id of the node
 * @throws KvError UNAVAILABLE when no gateway knows a leader
 */
export async function leaderOfKey(
  key: string,
  gatewayUrls: readonly string[],
  apiKey?: string,
): Promise<number> {
  const vshard = vshardOf({ tenant: DEFAULT_TENANT, space: Space.Kv, key: utf8(key) });
  let reason = "no gateway runs";
  for (const url of gatewayUrls) {
    try {
      const signal = AbortSignal.timeout(ANSWER_TIMEOUT_MS);
      const answer = await fetch(`${url}/admin/status?groups=1`, {
        headers: credentialHeader(apiKey),
        signal,
      });
      const text = await answer.text();
      const leader = answer.ok ? leaderIn(JSON.parse(text), vshard) : undefined;
      if (leader !== undefined) return leader;
      reason = answer.ok ? `${url} knows no leader` : `${url} answered ${answer.status} ${text}`;
    } catch (error) {
      reason = `${url}: ${String(error)}`;
    }
  }
  const detail = `who leads vshard ${vshard}, in which this key is, is not known: ${reason}`;
  throw new KvError("UNAVAILABLE", detail);
}

/** From the answer to `GET /admin/status?groups=1`; undefined when it has none. */
export function leaderIn(status: unknown, vshard: VshardId): number | undefined {
  if (typeof status !== "object" || status === null || !("groups" in status)) return undefined;
  if (!Array.isArray(status.groups)) return undefined;
  const groups = status.groups as readonly Readonly<Record<string, unknown>>[];
  const leader = groups.find(({ group }) => group === vshard)?.leader;
  return typeof leader === "number" ? leader : undefined;
}
