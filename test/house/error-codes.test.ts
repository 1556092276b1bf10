/**
 * Each code of the error table is answered somewhere: a table that lists more than the program does is a promise
 * that nobody keeps. What only asks for a code, sorts by it, types it or describes it, answers nothing.
 */
import { describe, expect, it } from "vitest";
import { openApiDocument } from "#gateway/info/openapi.ts";
import { testGateway } from "#gateway/testing/gateway.ts";
import { ERRORS } from "#shared/errors.ts";
import {
  descendants,
  isNode,
  isTest,
  parsed,
  type SourceFile,
  type SyntaxNode,
  sourceFiles,
} from "./source.ts";

/** The table itself, and the document that describes what others answer. */
const DESCRIPTIONS = /^shared\/errors\.ts$|^gateway\/info\/openapi/;

/** What runs in a server; `bin/` only starts it. */
const isAnswering = (path: string): boolean =>
  /^(gateway|storage-node|shared|proto)\//.test(path) && !isTest(path) && !DESCRIPTIONS.test(path);

/** Methods that look something up. */
const QUESTION = /^(has|get|includes|indexOf|startsWith|is)$/;

const nodeOf = (value: unknown): SyntaxNode | undefined => (isNode(value) ? value : undefined);

const nameOf = (node: unknown): unknown => {
  const found = nodeOf(node);
  return found?.type === "MemberExpression"
    ? nameOf(found.property)
    : (found?.name ?? found?.value);
};

/** The text that an expression may come to; a condition may come to either of two. */
function textsOf(node: SyntaxNode | undefined): readonly string[] {
  if (node?.type === "Literal" && typeof node.value === "string") return [node.value];
  if (node?.type !== "ConditionalExpression") return [];
  return [...textsOf(nodeOf(node.consequent)), ...textsOf(nodeOf(node.alternate))];
}

/**
 * Texts that this very node hands on as a code: to a call or a constructor, as the member `code` of an object, or as
 * `ERRORS.CODE.wire`.
 */
function handedOn(node: SyntaxNode): readonly string[] {
  switch (node.type) {
    case "NewExpression":
      return (node.arguments as SyntaxNode[]).flatMap(textsOf);
    case "CallExpression":
      if (QUESTION.test(String(nameOf(node.callee)))) return [];
      return (node.arguments as SyntaxNode[]).flatMap(textsOf);
    case "Property":
      return nameOf(node.key) === "code" ? textsOf(nodeOf(node.value)) : [];
    case "MemberExpression": {
      const row = nodeOf(node.object);
      if (nameOf(node.property) !== "wire" || row?.type !== "MemberExpression") return [];
      return nameOf(row.object) === "ERRORS" ? [String(nameOf(row.property))] : [];
    }
    default:
      return [];
  }
}

function answeredIn(files: readonly SourceFile[]): ReadonlySet<string> {
  const texts = files.flatMap(({ tree }) => [...descendants(tree)].flatMap(handedOn));
  return new Set(texts.filter((text) => Object.hasOwn(ERRORS, text)));
}

describe("what answers a code", () => {
  const answeredBy = (text: string) => [
    ...answeredIn([parsed("example.ts", `class Example { example() { ${text} } }`)]),
  ];

  it.each([
    'throw new KvError("CONFLICT", "why");',
    'const refused = () => new RequestRefused(isFull ? "CONFLICT" : other, "why");',
    'reply(failureOf("CONFLICT", "why", { notApplied: true }));',
    'this.#fail("CONFLICT", "why");',
    'return { code: "CONFLICT", detail };',
    'return failure(ERRORS.CONFLICT.wire, "why");',
  ])("%s does", (text) => {
    expect(answeredBy(text)).toEqual(["CONFLICT"]);
  });

  it.each([
    'if (error.code === "CONFLICT") return undefined;',
    'switch (code) { case "CONFLICT": return 1; }',
    'const RETRIED: ReadonlySet<ErrorCode> = new Set(["CONFLICT"]);',
    'if (RETRIED.has("CONFLICT")) again();',
    'type Refusal = { readonly code: "CONFLICT" };',
    'throw new KvError("INTERNAL_ONLY", "CONFLICT, it says");',
    "/* throws CONFLICT */ change();",
    "const status = ERRORS.CONFLICT.http;",
  ])("%s does not", (text) => {
    expect(answeredBy(text)).toEqual([]);
  });
});

describe("the error table", () => {
  const answered = answeredIn(sourceFiles(isAnswering));

  it("has no code that nothing answers", () => {
    expect(Object.keys(ERRORS).filter((code) => !answered.has(code))).toEqual([]);
  });

  it("has every code that the OpenAPI document names, and it is answered", () => {
    const text = JSON.stringify(openApiDocument("1.2.3", testGateway().app.gateway.routes));
    const named = new Set(
      [...text.matchAll(/"description":"((?:[^"\\]|\\.)*)"/g)].flatMap(
        ([, description]) => description!.match(/\b[A-Z][A-Z_]{6,}\b/g) ?? [],
      ),
    );
    expect(named.size).toBeGreaterThan(20);
    expect([...named].filter((code) => !answered.has(code))).toEqual([]);
  });
});
