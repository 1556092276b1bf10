/** What of requests comes into the audit log, and what must not. */
import { describe, expect, it } from "vitest";
import type { Caller } from "#gateway/auth/caller.ts";
import { type Gate, openGate } from "#gateway/auth/gate.ts";
import { tooManyFailures } from "#gateway/auth/refusals.ts";
import type { Exchange } from "#gateway/http/exchange.ts";
import { jsonAnswer, type ManagedRequest, type ManagedRoute } from "#gateway/http/managed-route.ts";
import { RequestRefused } from "#gateway/http/problem.ts";
import { testGateway } from "#gateway/testing/gateway.ts";
import { utf8 } from "#shared/bytes.ts";
import { DEFAULT_TENANT, toTenantId } from "#shared/ids.ts";
import type { AuditLogOptions } from "./audit-log.ts";
import { FailureCounter } from "./failure-counter.ts";
import { keyHashOf, type RecorderOptions, recorderOf } from "./recorder.ts";
import { auditFixture, linesIn } from "./testing/fixture.ts";

const SECRET = "mkv_0123456789ab_ThisIsTheSecretPartOfAKey42";
const TOKEN = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJzZWNyZXQifQ.c2lnbmF0dXJlLXNlY3JldA";
const CALLER: Caller = {
  principal: { kind: "key", id: "key-1", tenant: DEFAULT_TENANT, role: "Admin", prefixes: [] },
  tenant: toTenantId(7),
  answerHeaders: [],
};

/** Lets in whoever says "let me", and lets nobody read. */
const gate: Gate = {
  ...openGate,
  enter: (exchange) => {
    if (exchange.header("authorization") === "let me") return CALLER;
    throw new RequestRefused("UNAUTHENTICATED", "who is there?");
  },
  authorize: (_, { action }) => {
    if (action === "kv.read") throw new RequestRefused("FORBIDDEN", "not you");
  },
};

/** The route that makes tokens, as far as it matters here. */
const tokenRoute: ManagedRoute = {
  path: "/v1/auth/token",
  methods: new Map([
    [
      "POST",
      {
        access: "service.read",
        run: ({ exchange }) => Promise.resolve(jsonAnswer(exchange, { token: TOKEN })),
      },
    ],
  ]),
};

function fixture(
  options: Partial<RecorderOptions & AuditLogOptions & { gate: Gate; routes: ManagedRoute[] }> = {},
) {
  let text = "";
  const file = {
    append: async (more: string) => {
      text += more;
    },
    close: async () => undefined,
  };
  const { log, clock } = auditFixture({ file, ...options });
  const failures = new FailureCounter(clock, (summary) =>
    log.record({ event: "authFailures", ...summary }),
  );
  const tokens = new FailureCounter(clock, ({ count, clients: principals }) =>
    log.record({ event: "tokens", count, principals }),
  );
  const audit = recorderOf({
    ...{
      log,
      failures,
      tokens,
      recordsData: false,
      isRequired: false,
      clientOf: () => "192.0.2.9",
    },
    ...options,
  });
  const gateway = testGateway({
    audit,
    gate: options.gate ?? gate,
    routes: [tokenRoute, ...(options.routes ?? [])],
  });
  const lines = async () => {
    failures.flush();
    tokens.flush();
    await log.flush();
    return linesIn(text).map((line) => JSON.parse(line) as Record<string, unknown>);
  };
  const send = (
    method: string,
    path: string,
    body?: string,
    headers: Record<string, string> = {},
  ) =>
    gateway.app.request(path, {
      method,
      headers: { Authorization: "let me", "X-Request-ID": "req-1", ...headers },
      ...(body === undefined ? {} : { body }),
    });
  return { ...gateway, audit, log, lines, send, text: () => text };
}

describe("the audit log", () => {
  it("has each administrative action, with who did it and what came of it, and no reading", async () => {
    const { send, lines } = fixture();
    await send("POST", "/admin/rebalance");
    await send("DELETE", "/admin/nodes/nonsense?secret=value");
    await send("GET", "/admin/status");
    await send("POST", "/v1/auth/token");
    const actor = {
      ...{ event: "admin", request: "req-1", client: "192.0.2.9" },
      ...{ principal: "key-1", kind: "key", tenant: 7, role: "Admin" },
    };
    expect(await lines()).toMatchObject([
      { ...actor, action: "POST /admin/rebalance", status: 200, outcome: "done" },
      {
        ...{ ...actor, action: "DELETE /admin/nodes/:id", target: "/admin/nodes/nonsense" },
        ...{ status: 400, outcome: "refused", code: "INVALID_ARGUMENT" },
      },
      { ...actor, action: "POST /v1/auth/token", status: 200 },
    ]);
  });

  it("has the id of each key whose secret was shown, its end, and not the secret", async () => {
    const shownUntil = (path: string, untilMs: number): ManagedRoute => {
      const shown = { key: "0123456789abcdef", untilMs };
      const run = async ({ exchange }: Pick<ManagedRequest, "exchange">) => ({
        ...jsonAnswer(exchange, { key: SECRET }, 201),
        shown,
      });
      return { path, methods: new Map([["POST", { access: "tenant.keys", run }]]) };
    };
    const routes = [shownUntil("/admin/ending", 1_000), shownUntil("/admin/lasting", 0)];
    const { send, lines, text } = fixture({ routes });
    await send("POST", "/admin/ending");
    await send("POST", "/admin/lasting");
    expect(await lines()).toMatchObject([
      { key: "0123456789abcdef", key_until: "1970-01-01T00:00:01.000Z" },
      { key: "0123456789abcdef", key_until: "forever" },
    ]);
    expect(text()).not.toContain("ThisIsTheSecret");
  });

  it("has who was refused, on every kind of route, and of data routes no key", async () => {
    const { send, lines } = fixture();
    const nobody = { Authorization: "nobody" };
    await send("GET", "/v1/kv/the-key", undefined, nobody);
    await send("POST", "/admin/rebalance", undefined, nobody);
    await send("GET", "/v1/kv/the-key");
    expect(await lines()).toMatchObject([
      { event: "authFailure", code: "UNAUTHENTICATED", status: 401, target: "/v1/kv" },
      { event: "authFailure", code: "UNAUTHENTICATED", target: "/admin/rebalance" },
      {
        event: "authFailure",
        code: "FORBIDDEN",
        status: 403,
        principal: "key-1",
        target: "/v1/kv",
      },
    ]);
  });

  it("has a flood of refusals in a dozen lines", async () => {
    const { send, lines } = fixture();
    for (let n = 0; n < 500; n++)
      await send("POST", "/admin/rebalance", "", { Authorization: "x" });
    const all = await lines();
    expect(all.length).toBeLessThan(12);
    expect(all.at(-1)).toMatchObject({ event: "authFailures", count: 500 - (all.length - 1) });
  });

  it("has a flood of tokens in a dozen lines, and who had them", async () => {
    const { send, lines } = fixture();
    for (let n = 0; n < 500; n++) await send("POST", "/v1/auth/token");
    const all = await lines();
    expect(all.length).toBeLessThan(12);
    const count = 500 - (all.length - 1);
    expect(all.at(-1)).toMatchObject({ event: "tokens", count, principals: { "key-1": count } });
  });

  it("has a flood of tickets for watches in as many", async () => {
    const { audit, lines } = fixture();
    const route = "/v1/watch/tickets";
    const exchange = { method: "POST", target: route, requestId: "r", header: () => undefined };
    for (let n = 0; n < 500; n++) {
      audit.admin({ exchange: exchange as unknown as Exchange, route, status: 200 });
    }
    const all = await lines();
    expect(all.length).toBeLessThan(12);
    expect(all.at(-1)).toMatchObject({ event: "tokens", count: 500 - (all.length - 1) });
  });

  it("has those who are refused unseen after too many failures", async () => {
    const refuse = (): never => {
      throw tooManyFailures("again and again", 1_000);
    };
    const { send, lines } = fixture({ gate: { ...gate, enter: refuse } });
    for (const path of ["/v1/kv/the-key", "/v1/limits"]) await send("GET", path);
    const line = { event: "authFailure", code: "RATE_LIMITED", status: 429 };
    expect(await lines()).toMatchObject([
      { ...line, target: "/v1/kv" },
      { ...line, target: "/v1/limits" },
    ]);
  });

  it("has no key where a letter of the route before it is escaped", async () => {
    const { send, lines, text } = fixture();
    for (const path of ["/v1/k%76/the-key", "/%76%31/%6b%76/the-key", "/v1/kv%2fthe-key"]) {
      await send("GET", path, undefined, { Authorization: "nobody" });
    }
    for (const { target } of await lines()) expect(target).toBe("/v1/kv");
    expect(text()).toContain("authFailure");
    expect(text()).not.toContain("the-key");
  });

  it("has changes of keys where they are asked for, with a hash that the key's owner can find", async () => {
    const { send, lines } = fixture({ recordsData: true, gate: openGate });
    await send("PUT", "/v1/kv/a", "value");
    await send("PUT", "/v1/kv/a", "value", { "If-None-Match": "*" });
    await send("DELETE", "/v1/kv?key64=YQ");
    await send("DELETE", "/v1/kv/a");
    const ops = [
      { op: "put", key: "b", value: "1" },
      { op: "get", key: "b" },
      { op: "delete", key: "none" },
      { op: "delete", key: "b" },
    ];
    await send("POST", "/v1/batch", JSON.stringify({ ops }), {
      "Content-Type": "application/json",
    });
    await send("GET", "/v1/kv/a");
    const target = (key: string) => `key:${keyHashOf(DEFAULT_TENANT, utf8(key))}`;
    expect(await lines()).toMatchObject([
      { event: "data", action: "put", target: target("a"), status: 201, outcome: "done" },
      { event: "data", action: "delete", target: target("a"), status: 204 },
      { event: "data", action: "put", target: target("b"), status: 201 },
      { event: "data", action: "delete", target: target("b"), status: 204 },
    ]);
    expect(keyHashOf(DEFAULT_TENANT, utf8("a"))).not.toBe(keyHashOf(toTenantId(2), utf8("a")));
  });

  it("has writes of which nobody knows whether they were applied", async () => {
    const { send, lines, storage } = fixture({ recordsData: true, gate: openGate });
    storage.put = async () => {
      throw new Error("broken");
    };
    await send("PUT", "/v1/kv/a", "value");
    expect(await lines()).toMatchObject([{ action: "put", status: 500, outcome: "unknown" }]);
  });

  it("has no secret, no value and no key, wherever a client puts them", async () => {
    const { send, lines, text } = fixture({ recordsData: true });
    for (const secret of [SECRET, TOKEN]) {
      for (const [method, path] of [
        ["POST", `/admin/nodes/${secret}`],
        ["DELETE", `/admin/nodes/${secret}`],
        ["DELETE", `/admin/nodes/1?key=${secret}`],
        ["PUT", `/v1/kv/${secret}`],
        ["GET", `/v1/kv/${secret}`],
        ["DELETE", `/admin/nodes/7/drain`],
      ] as const) {
        const body = method === "GET" ? undefined : `{"address":"${secret}"}`;
        for (const authorization of ["let me", `Bearer ${secret}`]) {
          await send(method, path, body, { Authorization: authorization, "X-Request-ID": secret });
        }
      }
    }
    expect((await lines()).length).toBeGreaterThan(6);
    for (const part of ["ThisIsTheSecret", "c2lnbmF0dXJl", "eyJzdWIi", "address", "Bearer"]) {
      expect(text()).not.toContain(part);
    }
  });

  it("keeps administrative actions from being done where they must be recorded and cannot be", async () => {
    const broken = {
      append: () => Promise.reject(new Error("no space")),
      close: async () => undefined,
    };
    const { send, log, cluster } = fixture({ isRequired: true, file: broken });
    log.record({ event: "open" });
    await log.flush();
    expect((await send("POST", "/admin/rebalance")).status).toBe(503);
    expect(cluster.changes).toEqual([]);
    expect((await send("GET", "/v1/limits")).status).toBe(200);
    expect((await send("PUT", "/v1/kv/a", "1")).status).toBe(201);
    const lenient = fixture({ file: broken });
    lenient.log.record({ event: "open" });
    await lenient.log.flush();
    expect((await lenient.send("POST", "/admin/rebalance")).status).toBe(200);
  });
});
