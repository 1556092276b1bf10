/**
 * What the server says about itself, and what it says when it refuses: limits, health, the OpenAPI
 * document, problem details, request ids.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ERRORS } from "#shared/errors.ts";
import { KEY_SIZE_BYTES_MAX, VALUE_SIZE_BYTES_MAX } from "#shared/limits.ts";
import { type Deployment, describeEachDeployment } from "./harness.ts";
import { type Answer, expectProblem, HttpClient, jsonOf } from "./http-client.ts";

type Parameter = { readonly name: string; readonly in: string; readonly required?: boolean };
type ResponseObject = {
  readonly description: string;
  readonly content?: Readonly<Record<string, unknown>>;
};
type OperationObject = {
  readonly operationId: string;
  readonly parameters?: readonly Parameter[];
  readonly responses: Readonly<Record<string, ResponseObject>>;
};
type PathItem = { readonly parameters?: readonly Parameter[] } & Readonly<
  Record<(typeof METHODS)[number], OperationObject | undefined>
>;
type OpenApi = {
  readonly openapi: string;
  readonly info: { readonly title: string; readonly version: string };
  readonly paths: Readonly<Record<string, PathItem>>;
};

const METHODS = ["get", "head", "put", "delete", "post"] as const;

/** Every operation of the document. */
function operationsOf({ paths }: OpenApi) {
  return Object.entries(paths).flatMap(([path, item]) =>
    METHODS.flatMap((method) => {
      const operation = item[method];
      const parameters = [...(item.parameters ?? []), ...(operation?.parameters ?? [])];
      return operation === undefined ? [] : [{ path, method, operation, parameters }];
    }),
  );
}

/** Every `$ref` in `value`. */
function referencesIn(value: unknown): readonly string[] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([name, inner]) =>
    name === "$ref" ? [String(inner)] : referencesIn(inner),
  );
}

/** What a JSON pointer such as `#/components/schemas/Problem` leads to. */
function resolve(document: unknown, reference: string): unknown {
  expect(reference).toMatch(/^#\//);
  let found: unknown = document;
  for (const name of reference.slice(2).split("/")) {
    found = (found as Readonly<Record<string, unknown>> | undefined)?.[name];
  }
  return found;
}

describeEachDeployment("the server about itself", (start) => {
  let server: Deployment;
  let client: HttpClient;

  beforeAll(async () => {
    server = await start();
    client = new HttpClient(server.url);
  });
  afterAll(() => client.close());

  it("shows limits that are those that apply", async () => {
    const limits = jsonOf(await client.get("/v1/limits"));
    expect(limits).toMatchObject({
      key_size_bytes_max: KEY_SIZE_BYTES_MAX,
      value_size_bytes_max: VALUE_SIZE_BYTES_MAX,
    });
  });

  it.each(["live", "ready", "startup"])("answers /health/%s", async (name) => {
    const answer = await client.get(`/health/${name}`);
    expect(answer.status).toBe(200);
    expect(answer.headers["content-type"]).toContain("application/json");
    expect((await client.send("HEAD", `/health/${name}`)).status).toBe(200);
  });

  describe("/openapi.json", () => {
    it("is an OpenAPI 3.1 document whose parts fit together", async () => {
      const document = jsonOf(await client.get("/openapi.json")) as OpenApi;
      expect(document.openapi).toMatch(/^3\.1\.\d+$/);
      expect(document.info).toMatchObject({ title: "minikv" });
      expect(document.info.version).toMatch(/^\d+\.\d+\.\d+/);
      const references = referencesIn(document);
      expect(references.length).toBeGreaterThan(0);
      for (const reference of references) {
        expect(resolve(document, reference), reference).toBeTypeOf("object");
      }
      const operations = operationsOf(document);
      const ids = operations.map(({ operation }) => operation.operationId);
      expect(new Set(ids).size).toBe(ids.length);
      for (const { path, operation, parameters } of operations) {
        expect(path).toMatch(/^\//);
        expect(Object.keys(operation.responses).length).toBeGreaterThan(0);
        for (const [status, { description }] of Object.entries(operation.responses)) {
          expect(status).toMatch(/^[1-5]\d\d$|^default$/);
          expect(description).toBeTypeOf("string");
        }
        const inPath = [...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1]);
        const declared = parameters.filter((parameter) => parameter.in === "path");
        expect(declared.map(({ name }) => name)).toEqual(inPath);
        expect(declared.every(({ required }) => required === true)).toBe(true);
        const named = parameters.map((parameter) => `${parameter.in} ${parameter.name}`);
        expect(new Set(named).size, path).toBe(named.length);
      }
    });

    it("describes operations that answer as it says", async () => {
      const document = jsonOf(await client.get("/openapi.json")) as OpenApi;
      const seen = new Set<string>();
      for (const { path, method, operation, parameters } of operationsOf(document)) {
        const filled = path.replace("{key}", "documented").replace("{code}", "CONFLICT");
        const needed = parameters.filter(
          (parameter) => parameter.in === "query" && parameter.required,
        );
        const values: Readonly<Record<string, string>> = { key64: "ZG9j", key: "a", op: "kv.read" };
        const query = needed.map(({ name }) => `${name}=${values[name]}`).join("&");
        const target = query === "" ? filled : `${filled}?${query}`;
        const json = { "Content-Type": "application/json" };
        const post = { headers: json, body: '{"ops":[{"op":"get","key":"documented"}]}' };
        const request = method === "post" ? post : method === "put" ? { body: "v" } : {};
        if (isEndless(operation)) {
          expect(await headOf(`${server.url}${target}`)).toEqual([200, "text/event-stream"]);
          continue;
        }
        const answer = await client.send(method.toUpperCase(), target, request);
        const documented = operation.responses[String(answer.status)];
        expect([method, target, answer.status, documented !== undefined]).toEqual([
          ...[method, target, answer.status, true],
        ]);
        expectDocumentedType(answer, documented!, method);
        seen.add(`${method} ${path}`);
      }
      expect(seen).toContain("put /v1/kv/{key}");
      expect(seen).toContain("delete /v1/kv");
      expect(seen).toContain("post /v1/batch");
      expect(seen).toContain("get /health/ready");
    });
  });

  describe("refusals", () => {
    it("have a type that the server explains", async () => {
      const problem = expectProblem(await client.get("/v1/kv/absent"), "KEY_NOT_FOUND");
      const page = await fetch(new URL(problem.type, `${server.url}/v1/kv/absent`));
      expect(page.status).toBe(200);
      expect(await page.json()).toMatchObject({ code: "KEY_NOT_FOUND", status: 404 });
    });

    it.each(Object.keys(ERRORS))("of type /errors/%s are explained", async (code) => {
      const page = jsonOf(await client.get(`/errors/${code}`));
      const { http, retryable } = ERRORS[code as keyof typeof ERRORS];
      expect(page).toMatchObject({ code, status: http, retryable });
    });

    it.each([
      ["GET", "/nowhere", "ROUTE_NOT_FOUND", undefined],
      ["PUT", "/nowhere", "ROUTE_NOT_FOUND", "not_applied"],
      ["GET", "/errors/NO_SUCH_CODE", "ROUTE_NOT_FOUND", undefined],
      ["GET", "/v1/kvx", "ROUTE_NOT_FOUND", undefined],
      ["POST", "/v1/kv/a", "METHOD_NOT_ALLOWED", "not_applied"],
      ["PATCH", "/v1/kv/a", "METHOD_NOT_ALLOWED", "not_applied"],
      ["DELETE", "/v1/limits", "METHOD_NOT_ALLOWED", "not_applied"],
    ] as const)("%s %s is %s", async (method, path, code, outcome) => {
      const answer = await client.send(method, path);
      expectProblem(answer, code, outcome);
      expect(answer.headers.allow !== undefined).toBe(code === "METHOD_NOT_ALLOWED");
    });
  });

  describe("X-Request-ID", () => {
    const paths = ["/v1/kv/absent", "/v1/limits", "/nowhere"];

    it.each(paths)("is echoed by %s", async (path) => {
      for (const id of ["a", "My.id_1-2", "x".repeat(128)]) {
        const answer = await client.get(path, { "X-Request-ID": id });
        expect(answer.headers["x-request-id"]).toBe(id);
      }
    });

    it.each(paths)("is made by %s when it is absent or not accepted", async (path) => {
      const made = new Set<unknown>();
      for (const headers of [
        {},
        { "X-Request-ID": "no spaces" },
        { "X-Request-ID": "x".repeat(129) },
      ]) {
        const answer = await client.get(path, headers as Record<string, string>);
        expect(answer.headers["x-request-id"]).toMatch(/^[A-Za-z0-9._-]{1,128}$/);
        made.add(answer.headers["x-request-id"]);
      }
      expect(made.size).toBe(3);
    });

    it("is on a stored value too", async () => {
      // A test that is run once more finds what it has left.
      await client.delete("/v1/kv/with-id");
      const put = await client.put("/v1/kv/with-id", "v", { "X-Request-ID": "put-1" });
      expect([put.status, put.headers["x-request-id"]]).toEqual([201, "put-1"]);
      const got = await client.get("/v1/kv/with-id", { "X-Request-ID": "get-1" });
      expect([got.status, got.headers["x-request-id"]]).toEqual([200, "get-1"]);
    });
  });
});

/** Its answer goes on until its reader goes. */
const isEndless = ({ responses }: Pick<OperationObject, "responses">): boolean =>
  responses["200"]?.content?.["text/event-stream"] !== undefined;

/** Status and content type of an answer that is not read to its end. */
async function headOf(url: string): Promise<readonly unknown[]> {
  const answer = await fetch(url);
  await answer.body?.cancel();
  return [answer.status, answer.headers.get("content-type")?.split(";", 1)[0]];
}

function expectDocumentedType(answer: Answer, documented: ResponseObject, method: string): void {
  const type = answer.headers["content-type"];
  const types = Object.keys(documented.content ?? {});
  if (types.length === 0) {
    expect(answer.body.length).toBe(0);
  } else if (method !== "head" && !types.includes("*/*")) {
    expect(types.some((name) => type?.startsWith(name))).toBe(true);
  }
}
