/**
 * Who may import whom. The dependency graph is the architecture: raft and the state machine stay
 * pure so that they can be simulated, and gateway and storage node meet only in proto/ and shared/.
 */
import { posix } from "node:path";
import { describe, expect, it } from "vitest";
import { importsOf, isTest, type SourceFile, sourceFiles } from "./source.ts";

type Rule = {
  /** Files or folders (with a slash at the end) of this repository. The own folder always is. */
  readonly local: readonly string[];
  /** Packages and Node's own modules. */
  readonly packages: readonly string[];
};

const PURE = ["shared/"];
const RAFT_TYPES = "storage-node/raft/types.ts";

/** The longest matching folder or file decides. A folder that is missing here has no rule yet. */
const RULES: Readonly<Record<string, Rule>> = {
  "shared/": { local: [], packages: [] },
  "shared/runtime/": {
    local: [...PURE, "package.json"],
    packages: ["node:*", "pino", "smol-toml", "@grpc/grpc-js"],
  },
  // Only this file: what is loaded when traces are on alone.
  "shared/runtime/otlp-tracing.ts": {
    local: [...PURE, "shared/runtime/"],
    packages: [
      "@opentelemetry/api",
      "@opentelemetry/resources",
      "@opentelemetry/sdk-trace",
      "@opentelemetry/exporter-trace-otlp-http",
      "@opentelemetry/exporter-trace-otlp-proto",
    ],
  },
  // The bus has one door: everybody else knows bus.ts, and the library can be exchanged.
  "shared/runtime/nats.ts": {
    local: [...PURE, "shared/runtime/"],
    packages: ["node:*", "@nats-io/transport-node"],
  },
  // Figures become text here; modules that count know nothing of it.
  "shared/runtime/metrics.ts": { local: PURE, packages: ["prom-client"] },
  "shared/runtime/process-metrics.ts": {
    local: [...PURE, "shared/runtime/"],
    packages: ["node:*", "prom-client"],
  },
  "proto/": { local: PURE, packages: ["@bufbuild/protobuf"] },
  "gateway/": {
    local: [...PURE, "shared/runtime/", "proto/"],
    packages: ["node:*", "hono", "@hono/node-server"],
  },
  "gateway/middleware/": {
    local: [...PURE, "shared/runtime/", "gateway/"],
    packages: ["node:*", "hono", "@hono/node-server"],
  },
  "gateway/kv/": {
    local: [
      ...[...PURE, "shared/runtime/suggest.ts", "proto/", "gateway/"],
      ...["!gateway/s3/", "!gateway/watch/", "!gateway/admin/"],
    ],
    packages: ["node:*", "hono", "@hono/node-server"],
  },
  // Cold messages of the cluster: generated code.
  "gateway/cluster/": {
    local: [...PURE, "shared/runtime/", "proto/"],
    packages: ["node:*", "@grpc/grpc-js", "@bufbuild/protobuf"],
  },
  // Everybody who is let in goes through it: hashes, signatures, records of the directory.
  "gateway/auth/": {
    local: [...PURE, "shared/runtime/", "proto/", "gateway/"],
    packages: ["node:*", "jose", "smol-toml", "@bufbuild/protobuf"],
  },
  "gateway/directory/": {
    local: [...PURE, "shared/runtime/", "proto/", "gateway/cluster/"],
    packages: ["node:*", "@grpc/grpc-js", "@bufbuild/protobuf"],
  },
  // Values on their way to and from storage.
  "gateway/codec/": {
    local: [...PURE, "shared/runtime/", "proto/", "gateway/"],
    packages: ["node:*", "lz4-napi", "@bufbuild/protobuf"],
  },
  "gateway/tenants/": {
    local: [...PURE, "shared/runtime/", "proto/", "gateway/"],
    packages: ["node:*", "@bufbuild/protobuf"],
  },
  "gateway/jobs/": {
    local: [...PURE, "shared/runtime/", "proto/", "gateway/directory/"],
    packages: ["node:*", "@bufbuild/protobuf"],
  },
  // The routes of watches; what they deliver comes through `watches.ts`.
  "gateway/watch/http/": {
    local: [...PURE, "gateway/", "!gateway/s3/"],
    packages: ["node:*", "ws"],
  },
  "gateway/admin/": {
    local: [
      ...[...PURE, "proto/", "gateway/", "!gateway/kv/", "!gateway/s3/", "!gateway/watch/"],
      ...["shared/runtime/log.ts", "shared/runtime/log-level.ts"],
    ],
    packages: ["node:*", "hono", "@hono/node-server", "@bufbuild/protobuf"],
  },
  // Streams to storage nodes, as in gateway/storage/; events in the forms of the routes.
  "gateway/watch/": {
    local: [...PURE, "shared/runtime/", "proto/", "gateway/"],
    packages: ["node:*", "hono", "@grpc/grpc-js"],
  },
  "gateway/storage/": {
    local: [...PURE, "shared/runtime/", "proto/"],
    packages: ["node:*", "@grpc/grpc-js"],
  },
  "storage-node/": {
    local: [...PURE, "shared/runtime/", "proto/"],
    packages: ["node:*", "@bufbuild/protobuf"],
  },
  // The map's rows are generated messages. Planner and reconcile (placement/) have a rule of their own.
  "storage-node/meta/": {
    local: [
      ...PURE,
      "proto/",
      "storage-node/raft/",
      "storage-node/replica/",
      "storage-node/machine/",
      "storage-node/engine/engine.ts",
      "storage-node/engine/layout.ts",
      "storage-node/transport/transport.ts",
    ],
    packages: ["@bufbuild/protobuf"],
  },
  "storage-node/raft/": { local: PURE, packages: [] },
  "storage-node/machine/": {
    local: [
      ...PURE,
      "proto/codec/",
      "storage-node/engine/engine.ts",
      "storage-node/engine/layout.ts",
    ],
    packages: [],
  },
  "storage-node/wal/": {
    local: [...PURE, "proto/codec/", RAFT_TYPES, "storage-node/raft/configuration.ts"],
    packages: ["node:*"],
  },
  "storage-node/engine/": {
    local: PURE,
    packages: ["node:*", "@nxtedition/rocksdb", "rocksdb-native", "classic-level"],
  },
  "storage-node/replica/": {
    local: [
      ...PURE,
      "proto/",
      "storage-node/raft/",
      "storage-node/machine/",
      "storage-node/wal/types.ts",
      "storage-node/engine/engine.ts",
      "storage-node/engine/layout.ts",
      "storage-node/transport/transport.ts",
    ],
    packages: ["node:*"],
  },
  // Shows what replicas have applied: reads journal rows, and writes nothing.
  "storage-node/changes/": {
    local: [
      ...PURE,
      "proto/codec/",
      "storage-node/machine/",
      "storage-node/replica/",
      "storage-node/engine/engine.ts",
      "storage-node/engine/layout.ts",
    ],
    packages: [],
  },
  // Beside the replicas, whose state it carries: it reads and writes rows and files, and owns neither.
  "storage-node/snapshot/": {
    local: [
      ...PURE,
      "storage-node/raft/types.ts",
      "storage-node/raft/configuration.ts",
      "storage-node/machine/",
      "storage-node/replica/",
      "storage-node/wal/types.ts",
      "storage-node/wal/file-system.ts",
      "storage-node/wal/file-promises.ts",
      "storage-node/engine/engine.ts",
      "storage-node/engine/layout.ts",
      "storage-node/transport/transport.ts",
    ],
    packages: ["node:*"],
  },
  // Which replica moves, and how a group follows: pure, so that it can be tested as a model.
  "storage-node/meta/placement/": { local: [...PURE, RAFT_TYPES], packages: [] },
  "storage-node/meta/planner.ts": {
    local: [...PURE, "storage-node/meta/placement/"],
    packages: [],
  },
  "storage-node/meta/reconcile.ts": {
    local: [...PURE, RAFT_TYPES, "storage-node/meta/placement/"],
    packages: [],
  },
  "storage-node/transport/": {
    local: [...PURE, "shared/runtime/", "proto/", RAFT_TYPES],
    packages: ["node:*", "@grpc/grpc-js"],
  },
  "storage-node/rpc/": {
    local: [
      ...[...PURE, "shared/runtime/", "proto/"],
      ...["storage-node/node.ts", "storage-node/meta/", "storage-node/changes/"],
      "storage-node/operation-figures.ts",
    ],
    packages: ["node:*", "@grpc/grpc-js", "@bufbuild/protobuf"],
  },
  "bin/": {
    local: [...PURE, "shared/runtime/", "gateway/", "storage-node/"],
    packages: ["node:*"],
  },
  // Files for other programs; what makes them knows nothing of minikv.
  "infra/": { local: [], packages: ["node:*"] },
};

function ruleOf(path: string): { readonly folder: string; readonly rule: Rule } | undefined {
  let best: string | undefined;
  for (const folder of Object.keys(RULES)) {
    if (path.startsWith(folder) && folder.length > (best?.length ?? 0)) best = folder;
  }
  return best === undefined ? undefined : { folder: best, rule: RULES[best]! };
}

/** Path from the root of what `specifier` names; undefined for a package. */
function localPath(file: SourceFile, specifier: string): string | undefined {
  if (specifier.startsWith("#")) return specifier.slice(1);
  if (specifier.startsWith(".")) return posix.join(posix.dirname(file.path), specifier);
  return undefined;
}

/** Whether `path` is among `names`; a name with `!` in front excludes, and wins. */
function isAmong(path: string, names: readonly string[]): boolean {
  const matches = (name: string) =>
    // shared/runtime does I/O: whoever may import shared/ may not by that import it.
    (name.endsWith("/") ? path.startsWith(name) : path === name) &&
    !(name === "shared/" && path.startsWith("shared/runtime/"));
  if (names.some((name) => name.startsWith("!") && path.startsWith(name.slice(1)))) return false;
  return names.some(matches);
}

function packageIsAmong(specifier: string, packages: readonly string[]): boolean {
  return packages.some((name) =>
    name === "node:*"
      ? specifier.startsWith("node:")
      : specifier === name || specifier.startsWith(`${name}/`),
  );
}

/** What is wrong with one import; undefined when nothing is. */
function violation(file: SourceFile, specifier: string): string | undefined {
  if (specifier.startsWith("../")) return "goes up with ../: write #folder/file.ts";
  const local = localPath(file, specifier);
  if (local !== undefined && !/\.(ts|json)$/.test(local)) return "has no extension";
  if (isTest(file.path)) return undefined;
  if (local !== undefined && isTest(local)) {
    return file.path.startsWith("bin/") && local.startsWith("test/bench/")
      ? undefined
      : "is only for tests";
  }
  const found = ruleOf(file.path);
  if (found === undefined) return undefined;
  const { folder, rule } = found;
  if (local === undefined) {
    return packageIsAmong(specifier, rule.packages) ? undefined : `is no package of ${folder}`;
  }
  // Wiring (main.ts, node.ts) knows the parts below it; parts know their siblings by rule only.
  const own = folder === "shared/" ? isAmong(local, ["shared/"]) : local.startsWith(folder);
  return own || isAmong(local, rule.local) ? undefined : `is out of bounds for ${folder}`;
}

const files = sourceFiles();
const fake = (path: string): SourceFile => ({
  path,
  text: "",
  tree: { type: "Program", start: 0, end: 0 },
});

describe("imports", () => {
  it("keep to the allow-list of their folder", () => {
    const violations = files.flatMap((file) =>
      importsOf(file).flatMap((specifier) => {
        const problem = violation(file, specifier);
        return problem === undefined ? [] : [`${file.path}: "${specifier}" ${problem}`];
      }),
    );
    expect(violations).toEqual([]);
  });

  it("are seen in every form", () => {
    const self = files.find(({ path }) => path === "test/house/imports.test.ts")!;
    expect(importsOf(self)).toEqual(["node:path", "vitest", "./source.ts"]);
    const cli = files.find(({ path }) => path === "bin/cli.ts")!;
    expect(importsOf(cli)).toContain("#storage-node/main.ts");
  });

  it.each([
    ["gateway/app.ts", "#storage-node/node.ts"],
    ["storage-node/node.ts", "#gateway/app.ts"],
    ["storage-node/raft/raft.ts", "node:fs"],
    ["storage-node/raft/raft.ts", "#shared/runtime/log.ts"],
    ["storage-node/raft/raft.ts", "#proto/codec/messages.ts"],
    ["storage-node/machine/apply.ts", "#storage-node/engine/rocksdb.ts"],
    ["storage-node/replica/replica.ts", "#storage-node/wal/wal.ts"],
    ["storage-node/meta/placement/balance.ts", "#storage-node/raft/membership.ts"],
    ["storage-node/meta/planner.ts", "#proto/codec/cluster-map.ts"],
    ["shared/ids.ts", "./runtime/log.ts"],
    ["shared/ids.ts", "pino"],
    ["gateway/kv/routes.ts", "#gateway/s3/routes.ts"],
    ["gateway/kv/routes.ts", "../app.ts"],
    ["gateway/kv/routes.ts", "./handlers"],
    ["gateway/app.ts", "#proto/codec/testing.ts"],
  ])("violation() of %s refuses %s", (path, specifier) => {
    expect(violation(fake(path), specifier)).toBeTypeOf("string");
  });

  it.each([
    ["storage-node/raft/raft.ts", "#shared/ids.ts"],
    ["storage-node/raft/raft.ts", "./types.ts"],
    ["storage-node/node.ts", "#storage-node/wal/wal.ts"],
    ["storage-node/raft/raft.test.ts", "fast-check"],
    ["bin/dev.ts", "#gateway/app.ts"],
  ])("violation() of %s accepts %s", (path, specifier) => {
    expect(violation(fake(path), specifier)).toBeUndefined();
  });
});
