/**
 * Two tenants on one gateway, as a model: no sequence of requests with one tenant's credentials reads,
 * lists, counts, times or changes the other's data.
 *
 * It is tested as noninterference. The same requests of one tenant are sent in two worlds that differ only
 * in what the other tenant has stored (other keys, values, expiry): every answer must be the same to the
 * byte. And what the other tenant sees at the end must be the same as if nobody else had been there.
 *
 * Revisions are counted per vshard, which tenants share. So the worlds have equally many writes in the
 * first comparison, and revisions are left out of the second: that others write is what they tell.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { TestAuth } from "#gateway/testing/auth.ts";
import { testGateway } from "#gateway/testing/gateway.ts";
import { utf8 } from "#shared/bytes.ts";
import type { Role } from "./caller.ts";

type Request = {
  readonly method: string;
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
};

/** The victim stores the first or the second; both once. */
type Step =
  | { readonly kind: "victim"; readonly stored: readonly [Request, Request] }
  | { readonly kind: "attacker"; readonly key: number; readonly request: Request }
  | { readonly kind: "wait"; readonly ms: number };

const KEYS = ["a", "b", "a/b", "b/a"] as const;
const kvPath = (key: string): string => `/v1/kv/${encodeURIComponent(key)}`;

class World {
  readonly #test = new TestAuth();
  readonly #gateway = testGateway({ auth: this.#test });
  readonly #attackers: string[] = [];
  #victim = "";
  #victimKeyId = "";
  #requests = 0;

  async begin(): Promise<void> {
    const one = await this.#test.addTenant(2, "victim");
    const two = await this.#test.addTenant(3, "attacker");
    const victim = await this.#test.addKey("Admin", { tenant: one });
    this.#victim = victim.text;
    this.#victimKeyId = victim.id;
    for (const role of ["Admin", "ReadWrite", "ReadOnly"] satisfies Role[]) {
      this.#attackers.push((await this.#test.addKey(role, { tenant: two })).text);
    }
    const confined = { tenant: two, prefixes: [utf8("a/")] };
    this.#attackers.push((await this.#test.addKey("ReadWrite", confined)).text);
  }

  async ask(credential: string, { method, path, headers, body }: Request) {
    // It may name the victim's key, whose id it has from a log.
    const target = path.replace("VICTIM_KEY", this.#victimKeyId);
    const response = await this.#gateway.app.request(target, {
      method,
      headers: {
        "X-Request-ID": `r-${++this.#requests}`,
        Authorization: `Bearer ${credential}`,
        ...headers,
      },
      ...(body === undefined ? {} : { body }),
    });
    return { status: response.status, headers: [...response.headers], body: await response.text() };
  }

  /** @returns the answers that the attacker gets, in their order */
  async run(steps: readonly Step[], victim: 0 | 1 | undefined, withAttacker: boolean) {
    const answers = [];
    for (const step of steps) {
      if (step.kind === "wait") this.#test.clock.advance(step.ms);
      else if (step.kind === "victim") {
        if (victim !== undefined) {
          const { status } = await this.ask(this.#victim, step.stored[victim]);
          expect([200, 201]).toContain(status);
        }
      } else if (withAttacker) {
        answers.push(await this.ask(this.#attackers[step.key]!, step.request));
      }
    }
    return answers;
  }

  /** All that the victim can see of its own, but for revisions. */
  async victimSees(): Promise<unknown> {
    const seen = [];
    for (const path of ["/v1/kv", "/v1/kv?count_only=1", "/admin/keys", ...KEYS.map(kvPath)]) {
      const { status, body } = await this.ask(this.#victim, { method: "GET", path });
      const text = body.replace(/"revision":\d+/g, "").replace(/"request_id":"[^"]*"/g, "");
      seen.push([path, status, text.replace(/"last_used_at":[^,]*/g, "")]);
    }
    return seen;
  }
}

const key = fc.constantFrom(...KEYS);
const put = (value: string, ttl: number | undefined, name: string): Request => ({
  method: "PUT",
  path: kvPath(name),
  headers: ttl === undefined ? {} : { "Minikv-TTL": String(ttl) },
  body: value,
});
const ttl = fc.option(fc.integer({ min: 1, max: 5 }), { nil: undefined });
const stored = fc.record({ name: key, value: fc.string({ maxLength: 8 }), ttl });

/** What the attacker adds to whatever it sends. */
const headers = fc
  .record(
    {
      "Minikv-Tenant": fc.constantFrom("victim", "attacker", "default", "nobody"),
      "If-None-Match": fc.constant("*"),
      "If-Match": fc.constantFrom("*", '"1"', '"2"'),
      Accept: fc.constant("application/x-ndjson"),
    },
    { requiredKeys: [] },
  )
  .map((chosen) => chosen as Record<string, string>);

const json = { "Content-Type": "application/json" };
const listQuery = fc.constantFrom(
  ...["", "?count_only=1", "?keys_only=1", "?prefix=a", "?prefix=a/&limit=1", "?limit=1&reverse=1"],
);
const adminRequest = fc.constantFrom<Request>(
  { method: "GET", path: "/admin/keys" },
  { method: "GET", path: "/admin/keys?tenant=victim" },
  { method: "GET", path: "/admin/keys/VICTIM_KEY" },
  { method: "DELETE", path: "/admin/keys/VICTIM_KEY" },
  { method: "POST", path: "/admin/keys/VICTIM_KEY/revoke" },
  {
    method: "POST",
    path: "/admin/keys/VICTIM_KEY/rotate",
    headers: json,
    body: '{"overlap":"0s"}',
  },
  { method: "GET", path: "/admin/auth/explain?key=VICTIM_KEY&op=kv.read&path=/v1/kv/a" },
  {
    method: "POST",
    path: "/admin/keys",
    headers: json,
    body: '{"role":"Admin","tenant":"victim"}',
  },
  { method: "POST", path: "/admin/keys", headers: json, body: '{"role":"ClusterAdmin"}' },
  { method: "POST", path: "/admin/keys", headers: json, body: '{"role":"ReadOnly"}' },
  { method: "GET", path: "/admin/status" },
  { method: "POST", path: "/admin/rebalance" },
  { method: "GET", path: "/v1/limits" },
);
const batchRequest = fc
  .array(fc.record({ op: fc.constantFrom("get", "put", "delete"), key }), {
    minLength: 1,
    maxLength: 4,
  })
  .map((ops): Request => {
    const withValues = ops.map((op) => (op.op === "put" ? { ...op, value: "mine" } : op));
    return {
      method: "POST",
      path: "/v1/batch",
      headers: json,
      body: JSON.stringify({ ops: withValues }),
    };
  });
const kvRequest = fc.oneof(
  fc.tuple(fc.constantFrom("GET", "HEAD", "DELETE"), key).map(([method, name]) => ({
    method,
    path: kvPath(name),
  })),
  fc.tuple(key, ttl).map(([name, seconds]) => put("mine", seconds, name)),
  listQuery.map((query) => ({ method: "GET", path: `/v1/kv${query}` })),
  listQuery.map((query) => ({ method: "GET", path: `/range${query}` })),
);
const request = fc
  .tuple(
    fc.oneof(
      { weight: 4, arbitrary: kvRequest },
      { weight: 1, arbitrary: batchRequest },
      { weight: 2, arbitrary: adminRequest },
    ),
    headers,
  )
  .map(([asked, more]): Request => {
    const own: Request = asked;
    const isBatch = own.path === "/v1/batch";
    return { ...own, headers: { ...(isBatch ? {} : more), ...own.headers } };
  });

const step = fc.oneof(
  fc.tuple(stored, stored).map(
    ([one, two]): Step => ({
      kind: "victim",
      stored: [put(one.value, one.ttl, one.name), put(two.value, two.ttl, two.name)],
    }),
  ),
  {
    weight: 3,
    arbitrary: fc
      .record({ key: fc.nat({ max: 3 }), request })
      .map((asked): Step => ({ kind: "attacker", ...asked })),
  },
  fc.integer({ min: 1, max: 3_000 }).map((ms): Step => ({ kind: "wait", ms })),
);
const steps = fc.array(step, { minLength: 5, maxLength: 30 });

async function world(): Promise<World> {
  const made = new World();
  await made.begin();
  return made;
}

describe("two tenants", () => {
  it("see nothing of one another, and change nothing", async () => {
    let answered = 0;
    await fc.assert(
      fc.asyncProperty(steps, async (sequence) => {
        const [first, second, alone] = await Promise.all([world(), world(), world()]);
        const seen = await first.run(sequence, 0, true);
        expect(await second.run(sequence, 1, true)).toEqual(seen);
        await alone.run(sequence, 0, false);
        expect(await first.victimSees()).toEqual(await alone.victimSees());
        answered += seen.filter(({ status }) => status < 300).length;
      }),
      { numRuns: 80 },
    );
    // Else it would prove only that everything is refused.
    expect(answered).toBeGreaterThan(15);
  });

  it("would be told apart by this test if they shared their keys", async () => {
    const [first, second] = [await world(), await world()];
    const sequence: Step[] = [
      { kind: "victim", stored: [put("1", undefined, "a"), put("2", undefined, "a")] },
    ];
    await first.run(sequence, 0, false);
    await second.run(sequence, 1, false);
    expect(await first.victimSees()).not.toEqual(await second.victimSees());
  });
});
