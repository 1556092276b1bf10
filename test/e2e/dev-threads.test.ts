/** `minikv dev` is two threads: what keeps one of them from starting is the process's failure. */
import { createServer } from "node:net";
import { join } from "node:path";
import { expect, it } from "vitest";
import { startAllInOne, temporaryDirectory } from "./harness.ts";
import { ServerProcess } from "./server-process.ts";

it("says that the address is in use, exits with 1, and leaves a directory that serves", async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { readonly port: number };
  const dataDir = join(temporaryDirectory(), "data");
  const listen = `127.0.0.1:${port}`;
  const refused = new ServerProcess(["dev", "--listen", listen, "--data-dir", dataDir]);
  expect((await refused.exited).code).toBe(1);
  expect(refused.stdout).toBe("");
  expect(refused.stderr).toBe(
    `minikv: cannot start: listen EADDRINUSE: address already in use ${listen}` +
      "; choose another address with --listen\n",
  );
  await new Promise((resolve) => server.close(resolve));
  const started = await startAllInOne({ dataDir });
  expect((await fetch(`${started.url}/health/ready`)).status).toBe(200);
  expect(await started.stop()).toBe(0);
});

/** A key that was made in a start that fails would be one that nobody was shown. */
it("makes no root key when the address is in use, and shows it at the next start", async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { readonly port: number };
  const dataDir = join(temporaryDirectory(), "data");
  const own = ["--data-dir", dataDir, "--auth", "required"];
  const refused = new ServerProcess(["dev", "--listen", `127.0.0.1:${port}`, ...own]);
  expect(await refused.exited).toMatchObject({ code: 1, signal: null });
  expect(refused.stderr).toMatch(/^minikv: cannot start: [^\n]*\n$/);
  await new Promise((resolve) => server.close(resolve));
  const started = new ServerProcess(["dev", "--listen", "127.0.0.1:0", ...own]);
  // Stopped in the middle of it, the key is shown all the same.
  await started.printed(/serves (\S+)/);
  expect((await started.stop()).code).toBe(0);
  expect(started.stdout).toContain("  mkv_");
});

it("stops the gateway before the storage node, with one log for both", async () => {
  const started = await startAllInOne();
  expect((await fetch(`${started.url}/v1/kv/a`, { method: "PUT", body: "v" })).status).toBe(201);
  expect(await started.stop()).toBe(0);
  const messages = started.logRecords().map(({ msg }) => msg);
  expect(messages).toEqual(["minikv serves", "stopping", "stopped"]);
});
