/** Some of every kind of request, one after the other, so that there is something to see. */

export type Work = { end(): Promise<void> };

const JSON_BODY = { "Content-Type": "application/json" };

/**
 * Until `end()`. Failures are not looked at: others find out by what they see. Another tenant than the
 * caller's is named by a cluster's administrator.
 */
export function workOn(url: string, tenant?: string): Work {
  let isEnding = false;
  const tenantHeader = tenant === undefined ? {} : { "Minikv-Tenant": tenant };
  const ask = async (target: string, { headers, ...init }: RequestInit = {}): Promise<void> => {
    const all = { ...(headers as Record<string, string> | undefined), ...tenantHeader };
    await (await fetch(`${url}${target}`, { ...init, headers: all })).arrayBuffer();
  };
  const running = (async () => {
    for (let round = 0; !isEnding; round++) {
      const key = `/v1/kv/traffic/${round % 100}`;
      const ops = [{ op: "put", key: `traffic/batch/${round % 10}`, value: "x" }];
      try {
        await ask(key, { method: "PUT", body: "x" });
        await ask(key);
        if (round % 4 > 0) continue;
        await ask("/v1/batch", {
          method: "POST",
          headers: JSON_BODY,
          body: JSON.stringify({ ops }),
        });
        await ask("/v1/kv?prefix=traffic/&limit=10");
        await ask("/v1/kv?prefix=traffic/&count_only");
        await ask(key, { method: "DELETE" });
        await ask("/v1/kv/not-there");
      } catch {
        // It is stopping, or was restarted.
      }
    }
  })();
  return {
    end: () => {
      isEnding = true;
      return running;
    },
  };
}
