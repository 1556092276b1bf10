import { describe, expect, it } from "vitest";
import { type NatsConfig, natsSettings, parseNatsUrl, refuseNatsConfig } from "./nats-settings.ts";

const DEFAULTS = Object.fromEntries(
  Object.entries(natsSettings).map(([name, setting]) => [name, setting.default]),
) as NatsConfig;

const refusal = (config: Partial<NatsConfig>) => refuseNatsConfig({ ...DEFAULTS, ...config });
const here = { natsUrl: "nats://127.0.0.1:4222" };
const far = { natsUrl: "tls://nats.example:4222" };

describe("parseNatsUrl()", () => {
  it.each([
    ["nats://127.0.0.1:4222", false, ["127.0.0.1:4222"]],
    ["nats://a:1, nats://b", false, ["a:1", "b:4222"]],
    ["tls://[::1]:7,tls://[2001:db8::1]/", true, ["::1:7", "2001:db8::1:4222"]],
  ])("takes %s", (text, tls, servers) => {
    const parsed = parseNatsUrl(text);
    expect(parsed?.tls).toBe(tls);
    expect(parsed?.servers.map(({ host, port }) => `${host}:${port}`)).toEqual(servers);
  });

  it.each([
    ...["", "127.0.0.1:4222", "http://a:1", "ws://a:1", "nats://", "nats://a:0", "nats://a:70000"],
    ...["nats://user:secret@a:1", "nats://a:1/path", "nats://a:1?x", "nats://a:1,tls://b:1"],
    ...["nats://a:1,", "nats://a b:1", Array(17).fill("nats://a:1").join(",")],
  ])("refuses %j", (text) => {
    expect(parseNatsUrl(text)).toBeUndefined();
  });
});

describe("refuseNatsConfig()", () => {
  it("has nothing against no bus, one on this machine, or one with TLS and credentials", () => {
    expect(refusal({})).toBeUndefined();
    expect(refusal(here)).toBeUndefined();
    expect(refusal({ natsUrl: "nats://[::1]:4222,nats://localhost:4223" })).toBeUndefined();
    expect(refusal({ ...far, natsCredsFile: "c" })).toBeUndefined();
    expect(refusal({ ...far, natsUser: "u", natsPassword: "p" })).toBeUndefined();
    expect(refusal({ ...far, natsTlsCert: "c", natsTlsKey: "k" })).toBeUndefined();
    expect(refusal({ ...here, natsTokenFile: "t", natsSealKeyFile: "s" })).toBeUndefined();
  });

  it("refuses a bus beyond this machine without TLS or credentials, but for who asks for it", () => {
    expect(refusal(far)).toContain("without credentials");
    expect(refusal({ natsUrl: "nats://10.0.0.1:4222", natsToken: "t" })).toContain("without TLS");
    expect(refusal({ natsUrl: "nats://127.0.0.1,nats://b" })).toContain(
      "TLS (tls:// in nats-url) and",
    );
    expect(refusal({ natsUrl: "nats://b", insecureNats: true })).toBeUndefined();
  });

  it("does not repeat a wrong URL, which may hold a password", () => {
    const told = refusal({ natsUrl: "nats://user:hunter2@127.0.0.1:4222" });
    expect(told).toContain("nats-user");
    expect(told).not.toContain("hunter2");
  });

  it.each<[string, Partial<NatsConfig>]>([
    ["one of nats-user", { natsUser: "u", natsPassword: "p", natsToken: "t" }],
    ["one of nats-user", { natsNkeyFile: "n", natsCredsFile: "c" }],
    ["need each other", { natsUser: "u" }],
    ["need each other", { natsPasswordFile: "p" }],
    ["password comes from", { natsUser: "u", natsPassword: "p", natsPasswordFile: "p" }],
    ["token comes from", { natsToken: "t", natsTokenFile: "t" }],
    ["seal messages come from", { natsSealKey: "k", natsSealKeyFile: "k" }],
    ["need tls://", { natsTlsCa: "ca" }],
    ["needs both of", { natsUrl: "tls://localhost", natsTlsKey: "k" }],
  ])("refuses what does not go together: %s", (message, config) => {
    expect(refusal({ ...here, ...config })).toContain(message);
  });

  it.each(Object.entries(natsSettings).filter(([name]) => name !== "natsUrl"))(
    "refuses %s without a bus, where it would be ignored",
    (name, setting) => {
      const value = setting.type === "bool" ? true : "x";
      expect(refusal({ [name]: value })).toBe(`${setting.key} needs nats-url`);
    },
  );

  it("lets no secret be a flag, or be shown", () => {
    for (const setting of [
      natsSettings.natsPassword,
      natsSettings.natsToken,
      natsSettings.natsSealKey,
    ]) {
      expect(setting).toMatchObject({ secret: true, neverAsFlag: true });
    }
  });
});
