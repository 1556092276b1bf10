/** Tickets: good for one watch of what they were made for, at one gateway of all. */
import { afterEach, describe, expect, it } from "vitest";
import { type Audit, noAudit } from "#gateway/audit/audit.ts";
import { bearer, exchangeWith, ROOT_KEY, TestAuth } from "#gateway/testing/auth.ts";
import { problemOf, type TestGateway, testGateway } from "#gateway/testing/gateway.ts";
import { tokenGateway } from "#gateway/testing/tokens.ts";
import { testWatch } from "#gateway/testing/watch.ts";
import { TenantState } from "#proto/gen/minikv/v1/directory_pb.ts";
import { utf8 } from "#shared/bytes.ts";
import { KvError } from "#shared/errors.ts";
import {
  WATCH_RECHECK_DELAY_MS,
  WATCH_RECHECK_INTERVAL_MS,
  WATCH_TICKET_LENGTH_MAX,
} from "#shared/limits-watch-http.ts";

let audited: string[] = [];
afterEach(() => {
  audited = [];
});
const audit: Audit = {
  ...noAudit,
  admin: ({ route, status, actor }) => audited.push(`${route} ${status} ${actor?.principal.id}`),
  authFailure: ({ code, exchange }) => audited.push(`${code} ${exchange.method}`),
};

type Headers = Readonly<Record<string, string>>;

async function ticketOf(
  { app }: TestGateway,
  headers: Headers,
  body: object = {},
): Promise<string> {
  const response = await app.request("/v1/watch/tickets", {
    ...{ method: "POST", headers: { ...headers, "Content-Type": "application/json" } },
    body: JSON.stringify(body),
  });
  expect(response.status).toBe(200);
  expect(response.headers.get("cache-control")).toBe("no-store");
  const answer = (await response.json()) as { ticket: string; expires_in: number };
  expect(answer.expires_in).toBeLessThanOrEqual(60);
  return answer.ticket;
}

const use = ({ app }: TestGateway, ticket: string, more = "", headers: Headers = {}) =>
  app.request(`/v1/watch?ticket=${ticket}${more}`, { headers });

describe("a ticket", () => {
  it("opens one watch, of what was named when it was made", async () => {
    const auth = new TestAuth();
    const gateway = testGateway({ auth, audit });
    const key = await auth.addKey("ReadWrite", { prefixes: [utf8("a/")] });
    const ticket = await ticketOf(gateway, bearer(key), {
      ...{ prefix: "a/b", ops: ["expire", "put"], values: true },
    });
    expect((await use(gateway, ticket, "&since=abc")).status).toBe(200);
    expect(gateway.watches.newest.query).toMatchObject({
      filter: { kind: "prefix", prefix: Buffer.from("a/b") },
      ...{ tenant: 1, ops: ["put", "expire"], values: true, format: "sse" },
    });
    expect(gateway.watches.newest.from.since).toBe("abc");
    const again = await use(gateway, ticket);
    expect(again.status).toBe(401);
    expect(JSON.stringify(await problemOf(again))).not.toContain(ticket.slice(-20));
    expect(audited).toEqual([`/v1/watch/tickets 200 ${key.id}`, "UNAUTHENTICATED GET"]);
  });

  it("is used up once, however many gateways are asked at the same time", async () => {
    const auth = new TestAuth();
    const gateway = testGateway({ auth });
    const { storage: uses, directory, clock } = gateway;
    const { gate } = auth.auth;
    const others = [11, 12, 13].map((seed) =>
      testWatch({ gate, isOpen: false, directory, clock, uses, seed }),
    );
    const ticket = await ticketOf(gateway, bearer(await auth.addKey("ReadOnly")));
    const target = `/v1/watch?ticket=${ticket}`;
    const answers = await Promise.all(
      Array.from({ length: 12 }, (_, i) => {
        const { watch } = others[i % 3]!;
        return watch.handlerFor(target)!({ ...exchangeWith({}), target });
      }),
    );
    const statuses = answers.map(({ status }) => status).sort();
    expect(statuses).toEqual([200, ...Array.from({ length: 11 }, () => 401)]);
    expect(others.flatMap(({ watches }) => watches.all)).toHaveLength(1);
  });

  it("is not used up by a request that is refused for another reason", async () => {
    const auth = new TestAuth();
    const gateway = testGateway({ auth });
    const key = await auth.addKey("ReadOnly");
    const ticket = await ticketOf(gateway, bearer(key), { key: "a" });
    expect((await use(gateway, ticket, "&prefix=b")).status).toBe(400);
    expect((await use(gateway, ticket, "&since=%20")).status).toBe(400);
    expect((await use(gateway, ticket, "", bearer(key))).status).toBe(400);
    expect((await use(gateway, ticket, "", { "Minikv-Tenant": "default" })).status).toBe(400);
    expect((await gateway.app.request(`/v1/watch/ws?ticket=${ticket}`)).status).toBe(426);
    gateway.storage.failure = new KvError("UNAVAILABLE", "no leader", { outcome: "unknown" });
    expect((await use(gateway, ticket)).status).toBe(503);
    gateway.storage.failure = undefined;
    expect((await use(gateway, ticket)).status).toBe(200);
  });

  it("is good for a minute", async () => {
    const auth = new TestAuth();
    const gateway = testGateway({ auth });
    const headers = bearer(await auth.addKey("ReadOnly"));
    const [early, late] = [await ticketOf(gateway, headers), await ticketOf(gateway, headers)];
    gateway.clock.advance(59_000);
    expect((await use(gateway, early)).status).toBe(200);
    // A minute, and what clocks may differ.
    gateway.clock.advance(32_000);
    expect((await use(gateway, late)).status).toBe(401);
  });

  it("dies with its key, and so does its watch", async () => {
    const auth = new TestAuth();
    const gateway = testGateway({ auth });
    const key = await auth.addKey("ReadOnly");
    const [first, second] = [
      await ticketOf(gateway, bearer(key)),
      await ticketOf(gateway, bearer(key)),
    ];
    expect((await use(gateway, first)).status).toBe(200);
    await auth.changeKey(key.id, (record) => {
      record.revokedAtMs = 1n;
    });
    expect((await use(gateway, second)).status).toBe(401);
    gateway.clock.advance(WATCH_RECHECK_DELAY_MS);
    expect(gateway.watches.newest.ending).toMatchObject({ kind: "revoke" });
  });

  it("dies with the secret that was shown for it, when its key is rotated", async () => {
    const auth = new TestAuth();
    const gateway = testGateway({ auth });
    const key = await auth.addKey("ReadOnly");
    const tickets = await Promise.all([0, 1, 2].map(() => ticketOf(gateway, bearer(key))));
    const endsAtMs = gateway.clock.nowMs() + 10_000;
    await auth.changeKey(key.id, (record) => {
      const [old] = record.secrets;
      record.secrets = [
        { ...old!, hash: "another" },
        { ...old!, expiresAtMs: BigInt(endsAtMs) },
      ];
    });
    expect((await use(gateway, tickets[0]!)).status).toBe(200);
    gateway.clock.advance(9_000);
    expect((await use(gateway, tickets[1]!)).status).toBe(200);
    expect(gateway.watches.all.map(({ ending }) => ending)).toEqual([undefined, undefined]);
    gateway.clock.advance(1_000 + WATCH_RECHECK_INTERVAL_MS);
    for (const { ending } of gateway.watches.all) expect(ending).toMatchObject({ kind: "revoke" });
    expect((await use(gateway, tickets[2]!)).status).toBe(401);
  });

  it("dies with a secret that is taken away at once", async () => {
    const auth = new TestAuth();
    const gateway = testGateway({ auth });
    const key = await auth.addKey("ReadOnly");
    const [first, second] = await Promise.all([0, 1].map(() => ticketOf(gateway, bearer(key))));
    expect((await use(gateway, first!)).status).toBe(200);
    await auth.changeKey(key.id, (record) => {
      record.secrets = record.secrets.map((secret) => ({ ...secret, hash: "another" }));
    });
    expect((await use(gateway, second!)).status).toBe(401);
    gateway.clock.advance(WATCH_RECHECK_DELAY_MS);
    expect(gateway.watches.newest.ending).toMatchObject({ kind: "revoke" });
  });

  it("and its watch end with rights that its key loses, and with the tenant", async () => {
    const auth = new TestAuth();
    const gateway = testGateway({ auth });
    const tenant = await auth.addTenant(7, "seven");
    const key = await auth.addKey("ReadOnly", { tenant, prefixes: [utf8("a"), utf8("b")] });
    const body = { prefix: "a" };
    const tickets = [
      await ticketOf(gateway, bearer(key), body),
      await ticketOf(gateway, bearer(key), body),
      await ticketOf(gateway, bearer(key), { prefix: "b" }),
    ];
    expect((await use(gateway, tickets[0]!)).status).toBe(200);
    await auth.changeKey(key.id, (record) => {
      record.prefixes = [utf8("b")];
    });
    expect((await use(gateway, tickets[1]!)).status).toBe(401);
    gateway.clock.advance(WATCH_RECHECK_DELAY_MS);
    expect(gateway.watches.newest.ending).toMatchObject({ kind: "revoke" });
    await auth.addTenant(7, "seven", TenantState.SUSPENDED);
    expect((await use(gateway, tickets[2]!)).status).toBe(403);
  });

  it("of a token ends with the token, and its watch too", async () => {
    const auth = new TestAuth();
    const gateway = testGateway({ auth });
    const key = await auth.addKey("ReadWrite");
    const { issuer, verifier } = tokenGateway({ directory: auth.directory, clock: auth.clock });
    const shown = exchangeWith(bearer(key));
    const { token } = await issuer.issue(await auth.auth.gate.enter(shown), { expires_in: 100 });
    const principal = await verifier.verify(token, shown)!;
    const caller = { principal, tenant: principal.tenant, answerHeaders: [] };
    const { app } = testGateway({ auth, gate: { ...auth.auth.gate, ...gateOf(auth, caller) } });
    const response = await app.request("/v1/watch/tickets", { method: "POST" });
    const { ticket } = (await response.json()) as { ticket: string };
    expect((await use(gateway, ticket)).status).toBe(200);
    // 100 s, and the 30 s for clocks that differ which the gate allows.
    gateway.clock.advance(129_000);
    expect(gateway.watches.newest.ending).toBeUndefined();
    gateway.clock.advance(1_000 + WATCH_RECHECK_INTERVAL_MS);
    expect(gateway.watches.newest.ending).toMatchObject({ kind: "revoke" });
  });

  it("is no token, and a token is no ticket", async () => {
    const auth = new TestAuth();
    const gateway = testGateway({ auth });
    const key = await auth.addKey("ReadWrite");
    const { issuer, verifier } = tokenGateway({ directory: auth.directory, clock: auth.clock });
    const ticket = await ticketOf(gateway, bearer(key));
    const shown = exchangeWith(bearer(key));
    const { token } = await issuer.issue(await auth.auth.gate.enter(shown), {});
    await expect(verifier.verify(ticket, shown)).rejects.toMatchObject({ code: "UNAUTHENTICATED" });
    await expect(verifier.verify(token, shown)).resolves.toMatchObject({ id: key.id });
    expect((await use(gateway, token)).status).toBe(401);
    expect((await gateway.app.request("/v1/kv/a", { headers: bearer(ticket) })).status).toBe(401);
  });

  it("is signed: nothing of it can be changed", async () => {
    const auth = new TestAuth();
    const gateway = testGateway({ auth });
    const ticket = await ticketOf(gateway, bearer(await auth.addKey("ReadOnly")), { key: "a" });
    const [head, claims, signature] = ticket.split(".");
    const forged = JSON.parse(Buffer.from(claims!, "base64url").toString()) as object;
    const changed = (change: object) =>
      Buffer.from(JSON.stringify({ ...forged, ...change })).toString("base64url");
    for (const wrong of [
      `${head}.${changed({ watch: "prefix", bytes: "", prefixes: [] })}.${signature}`,
      `${head}.${changed({ jti: "AAAA" })}.${signature}`,
      `${Buffer.from('{"alg":"none","typ":"watch-ticket+jwt","kid":"x"}').toString("base64url")}.${claims}.`,
      `${head}.${claims}`,
      "",
      "x".repeat(7_000),
    ]) {
      expect((await use(gateway, wrong)).status).toBe(401);
    }
    expect((await use(gateway, ticket)).status).toBe(200);
  });
});

/** A gate that lets everybody in as `caller`. */
const gateOf = ({ auth }: TestAuth, caller: Awaited<ReturnType<typeof auth.gate.enter>>) => ({
  enter: () => caller,
  enterUnknown: () => undefined,
  authorize: () => undefined,
  renew: () => Promise.resolve(),
  whyEnded: () => undefined,
  enterAs: () => caller,
});

describe("POST /v1/watch/tickets", () => {
  it("makes a ticket for the longest key that fits a URL", async () => {
    const gateway = testGateway({ auth: new TestAuth() });
    const auth = new TestAuth({ directory: gateway.directory, clock: gateway.clock });
    const key64 = Buffer.alloc(1_024, 0xff).toString("base64url");
    const ticket = await ticketOf(gateway, bearer(await auth.addKey("ReadOnly")), { key64 });
    expect(ticket.length).toBeLessThan(WATCH_TICKET_LENGTH_MAX);
    expect((await use(gateway, ticket)).status).toBe(200);
    expect(gateway.watches.newest.query.filter).toMatchObject({ key: { length: 1_024 } });
  });

  it("makes no ticket for what its caller may not watch", async () => {
    const auth = new TestAuth();
    const { app } = testGateway({ auth });
    const key = await auth.addKey("ReadOnly", { prefixes: [utf8("a/")] });
    const headers = { ...bearer(key), "Content-Type": "application/json" };
    for (const [body, status] of [
      [{ prefix: "a/" }, 200],
      [{ key: "a/b" }, 200],
      [{ prefix: "a" }, 403],
      [{ key: "b" }, 403],
      [{}, 403],
      [{ prefix: "a/", key: "a/b" }, 400],
      [{ prefix: 1 }, 400],
      [{ ops: "put" }, 400],
      [{ prefix: "a/", values: 1 }, 400],
      [{ prefix: "a/", since: "x" }, 400],
      [{ key: "a".repeat(1_025) }, 414],
    ] as const) {
      const init = { method: "POST", headers, body: JSON.stringify(body) };
      expect([body, (await app.request("/v1/watch/tickets", init)).status]).toEqual([body, status]);
    }
  });

  it("makes none for the root key, whose end nobody could tell", async () => {
    const { app } = testGateway({ auth: new TestAuth() });
    const init = { method: "POST", headers: bearer(ROOT_KEY) };
    const response = await app.request("/v1/watch/tickets", init);
    expect(response.status).toBe(403);
    expect((await problemOf(response)).detail).toContain("make a key");
  });

  it("makes one where nobody is authenticated, which is good only there", async () => {
    const gateway = testGateway();
    const ticket = await ticketOf(gateway, {}, { prefix: "a" });
    const { directory, clock, storage: uses } = gateway;
    const closed = new TestAuth({ directory, clock });
    const { gate } = closed.auth;
    const { watch } = testWatch({ gate, isOpen: false, directory, clock, uses });
    const target = `/v1/watch?ticket=${ticket}`;
    const refused = await watch.handlerFor(target)!({ ...exchangeWith({}), target });
    expect(refused.status).toBe(401);
    expect((await use(gateway, ticket)).status).toBe(200);
    expect((await use(gateway, ticket)).status).toBe(401);
  });
});
