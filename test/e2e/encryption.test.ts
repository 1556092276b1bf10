/** Nothing that a client stored can be read from the data directory, and all of it from the server. */
import { randomBytes } from "node:crypto";
import { chmodSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { masterKeyLine } from "#gateway/codec/master-keys.ts";
import { systemRandom } from "#shared/random.ts";
import { type Deployment, startAllInOne, temporaryDirectory } from "./harness.ts";

const MARKER = "marker-of-this-test-";
/** Each begins with its marker, which no compression removes. */
const VALUES: ReadonlyMap<string, Buffer> = new Map([
  ["small", Buffer.from(`${MARKER}small`)],
  ["text", Buffer.from(`${MARKER}text ${"all work and no play ".repeat(500)}`)],
  ["noise", Buffer.concat([Buffer.from(`${MARKER}noise`), randomBytes(5_000)])],
  ["large", Buffer.from(`${MARKER}large ${"makes a dull boy ".repeat(50_000)}`)],
  ["large noise", Buffer.concat([Buffer.from(`${MARKER}large-noise`), randomBytes(900_000)])],
]);

const target = (url: string, key: string) => `${url}/v1/kv/${encodeURIComponent(key)}`;

/** Each value by itself, and once more in a batch. */
async function storeAll({ url }: Deployment): Promise<Map<string, string>> {
  const tags = new Map<string, string>();
  for (const [key, body] of VALUES) {
    const answer = await fetch(target(url, key), { method: "PUT", body: new Uint8Array(body) });
    expect(answer.status).toBe(201);
    tags.set(key, answer.headers.get("etag")!);
  }
  const ops = [...VALUES].map(([key, value]) => ({
    ...{ op: "put", key: `batch ${key}`, value_base64: value.toString("base64") },
  }));
  const answer = await fetch(`${url}/v1/batch`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ops }),
  });
  expect(answer.status).toBe(200);
  return tags;
}

async function expectAll({ url }: Deployment, tags: ReadonlyMap<string, string>): Promise<void> {
  for (const [key, value] of VALUES) {
    for (const name of [key, `batch ${key}`]) {
      const answer = await fetch(target(url, name));
      expect(answer.status).toBe(200);
      expect(Buffer.compare(Buffer.from(await answer.arrayBuffer()), value)).toBe(0);
    }
    const head = await fetch(target(url, key), { method: "HEAD" });
    expect(head.headers.get("content-length")).toBe(String(value.length));
    expect(head.headers.get("etag")).toBe(tags.get(key));
    const part = await fetch(target(url, key), { headers: { Range: "bytes=3-8" } });
    expect([part.status, await part.text()]).toEqual([206, MARKER.slice(3, 9)]);
  }
}

/** Files below `directory` in which the marker stands. */
function filesWithMarker(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: "utf8" })
    .filter((name) => statSync(join(directory, name)).isFile())
    .filter((name) => readFileSync(join(directory, name)).includes(MARKER));
}

function keyFile(...lines: string[]): string {
  const path = join(temporaryDirectory(), "master-keys");
  writeFileSync(path, `${lines.join("\n")}\n`, { mode: 0o600 });
  return path;
}

describe("encryption at rest", () => {
  it("leaves nothing to read in the data directory, before and after kill -9", async () => {
    const path = keyFile(masterKeyLine(systemRandom()));
    const server = await startAllInOne({ gatewayArgs: ["--master-key-file", path] });
    const tags = await storeAll(server);
    await expectAll(server, tags);
    await server.kill9();
    expect(filesWithMarker(server.dataDir)).toEqual([]);
    await server.restart();
    await expectAll(server, tags);
    expect(await server.stop()).toBe(0);
    expect(filesWithMarker(server.dataDir)).toEqual([]);
    expect(server.logs()).not.toContain(MARKER);
  });

  it("is switched on, rotated and never off again without being noticed", async () => {
    const [first, second] = [masterKeyLine(systemRandom()), masterKeyLine(systemRandom())];
    const path = keyFile(first);
    const plain = await startAllInOne();
    const tags = await storeAll(plain);
    expect(await plain.stop()).toBe(0);
    // The control: without a master key the same search finds values.
    expect(filesWithMarker(plain.dataDir)).not.toEqual([]);

    const gatewayArgs = ["--master-key-file", path];
    const server = await startAllInOne({ dataDir: plain.dataDir, gatewayArgs });
    await expectAll(server, tags);
    const rotated = await fetch(`${server.url}/admin/tenants/default/rotate-key`, {
      method: "POST",
    });
    expect(rotated.status).toBe(202);
    const state = async () =>
      (await (await fetch(`${server.url}/admin/encryption`)).json()) as {
        rotations: { phase: string; resealed: number }[];
        wrapped_with: unknown[];
      };
    await expect
      .poll(async () => (await state()).rotations[0], { timeout: 30_000 })
      .toMatchObject({ phase: "waiting", resealed: 2 * VALUES.size });
    await expectAll(server, tags);
    await server.kill9();

    writeFileSync(path, `${second}\n${first}\n`, { mode: 0o600 });
    await server.restart();
    await expectAll(server, tags);
    const rewrapped = await fetch(`${server.url}/admin/encryption/rotate-master`, {
      method: "POST",
    });
    expect(await rewrapped.json()).toMatchObject({ rewrapped: 1 });
    await server.kill9();

    const without = await startAllInOne({ dataDir: plain.dataDir });
    const put = await fetch(target(without.url, "new"), { method: "PUT", body: "v" });
    expect(await put.json()).toMatchObject({
      ...{ status: 503, code: "ENCRYPTION_KEY_MISSING", outcome: "not_applied" },
    });
    const get = await fetch(target(without.url, "small"));
    expect(await get.json()).toMatchObject({ code: "ENCRYPTION_KEY_MISSING" });
    expect((await fetch(target(without.url, "new"))).status).toBe(404);
  });

  it("does not start with a key file that others can read", async () => {
    const path = keyFile(masterKeyLine(systemRandom()));
    chmodSync(path, 0o644);
    const start = startAllInOne({ gatewayArgs: ["--master-key-file", path] });
    await expect(start).rejects.toThrow("chmod 600");
  });
});
