/** Batches and scans for the end-to-end tests. */
import { expect } from "vitest";
import type { Answer, HttpClient } from "./http-client.ts";
import { jsonOf } from "./http-client.ts";

/** A busy machine, or an election, must not fail what is not about time. */
const PATIENT = { "Minikv-Timeout": "25s" };

/** An operation of a batch, or any JSON that is none. */
export type Op = Readonly<Record<string, unknown>>;

export type OpResult = {
  readonly op: string;
  readonly status: number;
  readonly key?: string;
  readonly key64?: string;
  readonly revision?: number;
  readonly created?: boolean;
  readonly value?: string;
  readonly value_base64?: string;
  readonly error?: { readonly code: string; readonly outcome?: string };
};

export function sendBatch(client: HttpClient, ops: readonly Op[]): Promise<Answer> {
  const headers = { ...PATIENT, "Content-Type": "application/json" };
  return client.send("POST", "/v1/batch", { headers, body: JSON.stringify({ ops }) });
}

/** The results of a batch that was taken. */
export async function batch(client: HttpClient, ops: readonly Op[]): Promise<readonly OpResult[]> {
  const answer = await sendBatch(client, ops);
  expect(answer.status, answer.body.toString().slice(0, 1_000)).toBe(200);
  const { results } = jsonOf(answer) as { readonly results: readonly OpResult[] };
  expect(results).toHaveLength(ops.length);
  return results;
}

export type Item = {
  readonly key?: string;
  readonly key64?: string;
  readonly value?: string;
  readonly value_base64?: string;
  readonly revision: number;
  readonly size: number;
};

export type Page = {
  readonly items: readonly Item[];
  readonly has_more: boolean;
  readonly cursor: string | null;
};

export async function page(client: HttpClient, query: string): Promise<Page> {
  const answer = await client.get(`/v1/kv?${query}`, PATIENT);
  expect(answer.status, answer.body.toString().slice(0, 1_000)).toBe(200);
  return jsonOf(answer) as Page;
}

/** All items of the pages of a query, to the end. */
export async function allPages(client: HttpClient, query: string): Promise<readonly Item[]> {
  const items: Item[] = [];
  for (let cursor: string | null = ""; cursor !== null; ) {
    const next: Page = await page(client, cursor === "" ? query : `${query}&cursor=${cursor}`);
    items.push(...next.items);
    cursor = next.cursor;
  }
  return items;
}

export async function lines(client: HttpClient, query: string): Promise<readonly Item[]> {
  const headers = { ...PATIENT, Accept: "application/x-ndjson" };
  const answer = await client.get(`/v1/kv?${query}`, headers);
  expect(answer.status, answer.body.toString().slice(0, 1_000)).toBe(200);
  const text = answer.body.toString("utf8");
  return text === ""
    ? []
    : text
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line) as Item);
}

export async function count(client: HttpClient, query: string): Promise<number> {
  const answer = await client.get(`/v1/kv?${query}&count_only`, PATIENT);
  expect(answer.status, answer.body.toString()).toBe(200);
  return (jsonOf(answer) as { readonly count: number }).count;
}

/**
 * Deletes all keys, before each test of those that share a server: none finds what another one has left, or an earlier
 * run of itself that failed.
 */
export async function removeAll(client: HttpClient): Promise<void> {
  for (;;) {
    const { items } = await page(client, "keys_only&limit=1000");
    if (items.length === 0) return;
    const ops = items.map((item) => ({ op: "delete", key64: keyOf(item).toString("base64url") }));
    await batch(client, ops);
  }
}

/** The key of a result or an item, as bytes. */
export function keyOf({ key, key64 }: Pick<Item, "key" | "key64">): Buffer {
  expect(key === undefined).not.toBe(key64 === undefined);
  return key64 === undefined ? Buffer.from(key!, "utf8") : Buffer.from(key64, "base64url");
}

export function valueIn({ value, value_base64 }: Pick<Item, "value" | "value_base64">): Buffer {
  expect(value === undefined).not.toBe(value_base64 === undefined);
  return value === undefined ? Buffer.from(value_base64!, "base64") : Buffer.from(value, "utf8");
}
