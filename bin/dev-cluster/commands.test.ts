/** The command line of the commands; what they do is tested with the supervisor. */
import { describe, expect, it } from "vitest";
import { toVshardId } from "#shared/ids.ts";
import { devCommandsHelp, runDevCommand } from "./commands.ts";
import { layoutOf, openClusterDirectory } from "./layout.ts";
import { leaderIn, leaderOfKey } from "./leader.ts";
import { statusText } from "./status-text.ts";
import { temporaryDirectory } from "./testing/temporary.ts";

async function run(argv: readonly string[], env: Record<string, string> = {}) {
  let out = "";
  let err = "";
  const inputs = { argv, env, readFile: () => "nodes = 3\n" };
  const code = await runDevCommand(inputs, {
    out: (text) => {
      out += text;
    },
    err: (text) => {
      err += text;
    },
  });
  return { code, out, err };
}

const COMMANDS = ["status", "kill", "pause", "resume", "restart", "add-node", "forget"];

describe("runDevCommand()", () => {
  it.each(COMMANDS)("%s has a --help, and is in that of minikv dev", async (name) => {
    const { code, out } = await run([name, "--help"]);
    expect(out).toContain(`Usage: minikv dev ${name} `);
    expect(out).toContain("MINIKV_DIR");
    expect(code).toBe(0);
    expect(devCommandsHelp()).toContain(`  ${name} `);
  });

  it.each([
    [["kil", "1"], 'dev has no command "kil"; did you mean kill?'],
    [["kill"], "which process? none is named"],
    [["kill", "1", "--gateway", "1"], "which process? several are named"],
    [["kill", "--gateway", "1", "--leader-of", "k"], "give one of --gateway and --leader-of"],
    [["kill", "1", "2"], 'unexpected argument "2"'],
    [["kill", "1", "--signal", "HUP"], "--signal: expected KILL, TERM"],
    [["kill", "--gateway", "0"], "--gateway: expected a whole number from 1 to"],
    [["pause", "1", "--for", "2h"], "--for: expected a duration"],
    [["pause", "1", "--fro", "2s"], "did you mean --for?"],
    [["resume", "--leader-of", "k"], "unknown flag --leader-of"],
    [["status", "node-1"], 'unexpected argument "node-1"'],
    [["forget"], "which process? none is named"],
    [["status", "--nodes", "3"], "unknown flag --nodes"],
  ])("refuses %j", async (argv, message) => {
    await expect(run(argv)).rejects.toThrow(message);
  });

  it("says how to start a cluster where none runs", async () => {
    const dir = temporaryDirectory();
    const env = { MINIKV_DIR: dir, MINIKV_NODES: "3", MINIKV_DATA_DIR: "d" };
    const hint = `no cluster runs in ${dir}. Start one with: minikv dev --nodes 3 --dir ${dir}`;
    await expect(run(["kill", "1", "--config", "dev.toml"], env)).rejects.toThrow(hint);
    await expect(run(["kill", "--leader-of", "k"], env)).rejects.toThrow(hint);
    await expect(run(["status"], { MINIKV_DRI: dir })).rejects.toThrow("MINIKV_DRI");
  });

  it("says it so that a shell takes it, whatever the directory is called", async () => {
    const dir = `${temporaryDirectory()}/it's mine`;
    const word = `'${dir.replace("'", "'\\''")}'`;
    await expect(run(["status"], { MINIKV_DIR: dir })).rejects.toThrow(`--nodes 3 --dir ${word}`);
    const lock = openClusterDirectory(layoutOf(dir));
    try {
      expect(() => openClusterDirectory(layoutOf(dir))).toThrow(`dev status --dir ${word}"`);
    } finally {
      lock.release();
    }
  });
});

describe("leaderIn()", () => {
  const groups = [
    { group: "meta", leader: 2 },
    { group: 6, leader: 1 },
    { group: 7, leader: 3 },
    { group: 8, leader: null },
  ];

  it("finds the vshard's leader", () => {
    expect(leaderIn({ groups }, toVshardId(7))).toBe(3);
  });

  it("finds none where there is none", () => {
    expect(leaderIn({ groups }, toVshardId(8))).toBeUndefined();
    expect(leaderIn({ groups }, toVshardId(9))).toBeUndefined();
  });

  it.each([[null], [{}], [{ groups: 1 }], [{ groups: [] }]])("finds none in %j", (answer) => {
    expect(leaderIn(answer, toVshardId(7))).toBeUndefined();
  });
});

describe("leaderOfKey()", () => {
  it("says what every gateway said", async () => {
    await expect(leaderOfKey("k", [])).rejects.toThrow("is not known: no gateway runs");
    const nobody = "http://127.0.0.1:1";
    await expect(leaderOfKey("k", [nobody])).rejects.toThrow(`is not known: ${nobody}: `);
  });
});

describe("statusText()", () => {
  it("shows each process with what is known of it", () => {
    const common = { lastEnd: null, logPath: "", paused: false };
    const text = statusText({
      directory: "/c",
      supervisorPid: 1,
      gateways: [
        { ...common, name: "gateway-1", phase: "serving", paused: true, pid: 4, url: "http://g" },
      ],
      storageNodes: [
        {
          ...common,
          name: "node-1",
          phase: "starting",
          pid: 2,
          id: null,
          address: "a:1",
          dataDir: "",
          httpUrl: null,
        },
        {
          ...common,
          ...{
            name: "node-2",
            phase: "ended",
            pid: null,
            id: 2,
            address: "a:2",
            dataDir: "",
            httpUrl: null,
          },
          lastEnd: { code: null, signal: "SIGKILL" },
        },
      ],
    });
    expect(text.split("\n").map((line) => line.split(/ {2,}/))).toEqual([
      ["cluster in /c, supervisor 1"],
      [""],
      ["process", "pid", "state", "where", "node id"],
      ["node-1", "2", "starting", "a:1", "?"],
      ["node-2", "-", "was ended by SIGKILL", "a:2", "2"],
      ["gateway-1", "4", "paused", "http://g"],
      [""],
    ]);
  });
});
