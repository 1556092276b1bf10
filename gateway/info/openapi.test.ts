import { describe, expect, it } from "vitest";
import { testGateway } from "#gateway/testing/gateway.ts";
import { ERRORS } from "#shared/errors.ts";
import { openApiDocument } from "./openapi.ts";

type Operation = {
  readonly operationId: string;
  readonly parameters?: readonly { readonly name: string; readonly in: string }[];
  readonly requestBody?: object;
  readonly responses: Record<string, { readonly description: string; readonly headers?: object }>;
};
type PathItem = Partial<Record<string, Operation>>;

const METHODS = ["get", "head", "put", "post", "delete", "patch", "options"];
const document = openApiDocument("1.2.3", testGateway().app.gateway.routes);
const paths = document.paths as unknown as Record<string, PathItem>;

const operations = Object.entries(paths).flatMap(([path, item]) =>
  METHODS.filter((method) => item[method]).map((method) => ({
    path,
    method,
    operation: item[method]!,
  })),
);

/** How Hono writes a path of the document. */
const honoPath = (path: string): string =>
  path.startsWith("/v1/kv") ? "/v1/kv/*" : path.replace(/\{(\w+)\}/g, ":$1");

describe("openApiDocument()", () => {
  it("describes exactly the routes that exist", () => {
    const described = new Set(
      operations.map(({ path, method }) => `${method.toUpperCase()} ${honoPath(path)}`),
    );
    const existing = new Set(
      testGateway()
        .app.routes.filter(({ method }) => method !== "ALL")
        .map(({ method, path }) => `${method} ${path}`),
    );
    expect([...described].sort()).toEqual([...existing].sort());
  });

  it("is what /openapi.json serves", async () => {
    const response = await testGateway().app.request("/openapi.json");
    expect(await response.json()).toEqual(JSON.parse(JSON.stringify(document)));
    expect(document.openapi).toBe("3.1.0");
    expect(document.info.version).toBe("1.2.3");
  });

  it("gives each operation an id of its own", () => {
    const ids = operations.map(({ operation }) => operation.operationId);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it("refers only to schemas that it has", () => {
    const text = JSON.stringify(document);
    const references = [...text.matchAll(/"#\/components\/schemas\/(\w+)"/g)].map((m) => m[1]!);
    expect(references.length).toBeGreaterThan(10);
    for (const name of references) expect(document.components.schemas).toHaveProperty(name);
  });

  it("names error codes of the table, each with its status", () => {
    for (const { operation } of operations) {
      for (const [status, { description }] of Object.entries(operation.responses)) {
        for (const code of description.match(/\b[A-Z]+_[A-Z_]+\b/g) ?? []) {
          expect(String(ERRORS[code as keyof typeof ERRORS]?.http)).toBe(status);
        }
      }
    }
  });

  it("names an error of a condition, a range or a body only where the request can have one", () => {
    const needs = { "408": "body", "412": "If-Match", "413": "body", "416": "Range" };
    const odd = operations.flatMap(({ path, method, operation }) => {
      const { parameters = [], requestBody, responses } = operation;
      const has = parameters.map(({ name }) => name).concat(requestBody ? ["body"] : []);
      return Object.entries(needs).flatMap(([status, part]) =>
        responses[status] && !has.includes(part) ? [`${method} ${path}: ${status}`] : [],
      );
    });
    expect(odd).toEqual([]);
  });

  it("declares every path parameter", () => {
    for (const [path, item] of Object.entries(paths)) {
      const shared = (item.parameters ?? []) as unknown as { name: string; in: string }[];
      const declared = shared.filter((parameter) => parameter.in === "path").map((p) => p.name);
      expect(declared).toEqual([...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1]));
    }
  });

  it("describes the parameters that the routes take, and no others", async () => {
    const { app } = testGateway();
    for (const [path, method, target] of [
      ["/v1/kv/{key}", "get", "/v1/kv/a?nope=1"],
      ["/v1/kv/{key}", "put", "/v1/kv/a?nope=1"],
      ["/v1/kv/{key}", "delete", "/v1/kv/a?nope=1"],
      ["/v1/kv", "get", "/v1/kv?nope=1"],
      ["/range", "get", "/range?nope=1"],
      ["/v1/watch", "get", "/v1/watch?nope=1"],
      ["/watch/sse", "get", "/watch/sse?nope=1"],
      ["/v1/watch/ws", "get", "/v1/watch/ws?nope=1"],
      ["/watch/ws", "get", "/watch/ws?nope=1"],
      ["/v1/batch", "post", "/v1/batch?nope=1"],
      ["/batch", "post", "/batch?nope=1"],
    ] as const) {
      const headers = { "Content-Type": "application/json" };
      const response = await app.request(target, { method: method.toUpperCase(), headers });
      const { detail } = (await response.json()) as { detail: string };
      const known = /known here: ([^)]*)/.exec(detail)![1]!.split(", ");
      const described = (paths[path]![method]!.parameters ?? [])
        .filter((parameter) => parameter.in === "query")
        .map((parameter) => parameter.name);
      const other = path === "/v1/kv/{key}" ? described.concat("key64") : described;
      expect([path, method, other.sort()]).toEqual([
        ...[path, method, path === "/v1/kv" ? known.concat("key64").sort() : known.sort()],
      ]);
    }
  });

  it("names the tenant's header wherever credentials are asked for, and nowhere else", () => {
    for (const { operation } of operations) {
      const isPublic = (operation as { readonly security?: unknown }).security !== undefined;
      const names = (operation.parameters ?? []).map(({ name }) => name);
      expect(names.filter((name) => name === "Minikv-Tenant")).toHaveLength(isPublic ? 0 : 1);
      expect(operation.responses).toHaveProperty("default");
      expect(operation.responses).toHaveProperty("500");
    }
  });

  it("describes the headers that answers have", async () => {
    const { app } = testGateway();
    const to = (method: string, headers: Record<string, string> = {}) =>
      app.request("/v1/kv/a", { method, headers, ...(method === "PUT" ? { body: "value" } : {}) });
    await to("PUT");
    const answers = [
      ["put", await to("PUT")],
      ["get", await to("GET")],
      ["get", await to("GET", { Range: "bytes=0-1" })],
      ["get", await to("GET", { Range: "bytes=9-" })],
      ["get", await to("GET", { "If-Match": '"99"' })],
      ["put", await to("PUT", { "If-Match": '"99"' })],
    ] as const;
    expect(answers.map(([, { status }]) => status)).toEqual([200, 200, 206, 416, 412, 412]);
    const common =
      /^(content-(type|length|security-policy)|cache-control|x-.*|cross-.*|referrer-.*)$/;
    for (const [method, { status, headers }] of answers) {
      const described = Object.keys(paths["/v1/kv/{key}"]![method]!.responses[status]!.headers!);
      const names = described.map((name) => name.toLowerCase());
      const others = [...headers.keys()].filter((name) => !common.test(name));
      expect([method, status, others.filter((name) => !names.includes(name))]).toEqual([
        ...[method, status, []],
      ]);
    }
  });
});
