import { describe, expect, it } from "vitest";
import { ConfigError } from "#shared/runtime/config.ts";
import { parseOidcFile } from "./oidc-file.ts";

const parse = (text: string) => parseOidcFile(text, "oidc.toml");
const LEAST = 'url = "https://a.example"\naudience = "minikv"\ntenant = "t"\nrole = "ReadOnly"\n';
const ISSUER = `[[issuer]]\n${LEAST}`;

describe("parseOidcFile()", () => {
  it("reads everything that can be said", () => {
    const text = `
      [[issuer]]
      url = "https://login.example.com/realms/shop"
      audience = ["minikv", "kv"]
      tenant-claim = ["org", "name"]
      role-claim = "roles"
      roles = { writer = "ReadWrite", boss = "Admin" }
      subject-prefix = "shop:"
      algorithms = ["RS256", "ES256"]
      types = ["JWT"]
      clock-skew-seconds = 5
    `;
    expect(parse(text)).toEqual([
      {
        url: "https://login.example.com/realms/shop",
        audiences: ["minikv", "kv"],
        tenant: { claim: ["org", "name"] },
        role: {
          claim: ["roles"],
          roles: new Map([
            ["writer", "ReadWrite"],
            ["boss", "Admin"],
          ]),
        },
        subjectPrefix: "shop:",
        algorithms: ["RS256", "ES256"],
        types: ["jwt"],
        skewMs: 5_000,
      },
    ]);
  });

  it("keeps subjects of issuers apart by default", () => {
    expect(parse(ISSUER)).toMatchObject([
      { subjectPrefix: "a.example:", algorithms: ["EdDSA", "ES256", "RS256"], skewMs: 30_000 },
    ]);
  });

  it.each([
    ["", "at least one [[issuer]]"],
    ["issuer = 1", "at least one [[issuer]]"],
    ["issuer = []", "at least one [[issuer]]"],
    ["issuer = [1]", "issuer 1: is no table"],
    ["[[issuers]]", 'unknown key "issuers"'],
    ["[[issuer", ""],
    [`${ISSUER}audence = "x"`, 'unknown key "audence"'],
    [`${ISSUER}${ISSUER}`, "is there twice"],
    [ISSUER.replace("https", "http"), "issuer 1: url must be an https URL"],
    [ISSUER.replace("a.example", "a.example?x"), "issuer 1: url"],
    [ISSUER.replace("a.example", "a.example#"), "issuer 1: url"],
    [ISSUER.replace("a.example", "u:p@a.example"), "issuer 1: url"],
    [ISSUER.replace("https:", "file:"), "issuer 1: url"],
    [ISSUER.replace("https://a.example", "http:127.0"), "issuer 1: url"],
    [ISSUER.replace("a.example", "A.example"), "issuer 1: url"],
    [ISSUER.replace("https://a.example", "http://127.0.0.1.example"), "issuer 1: url"],
    [ISSUER.replace('audience = "minikv"', ""), "needs an audience"],
    [ISSUER.replace('audience = "minikv"', "audience = []"), "audience must be"],
    [ISSUER.replace('tenant = "t"', ""), "either tenant or tenant-claim"],
    [`${ISSUER}tenant-claim = "x"`, "either tenant or tenant-claim"],
    [ISSUER.replace('role = "ReadOnly"', ""), "either role, or role-claim and roles"],
    [ISSUER.replace('role = "ReadOnly"', 'role-claim = "r"'), "either role"],
    [`${ISSUER}role-claim = "x"`, "either role"],
    [ISSUER.replace("ReadOnly", "Owner"), "role: known are"],
    [ISSUER.replace('role = "ReadOnly"', 'role-claim = "r"\nroles = { a = "b" }'), 'roles: "a"'],
    [`${ISSUER}algorithms = ["HS256"]`, "algorithms: known are"],
    [`${ISSUER}algorithms = ["none"]`, "algorithms: known are"],
    [`${ISSUER}clock-skew-seconds = 301`, "clock-skew-seconds"],
    [`${ISSUER}clock-skew-seconds = -1`, "clock-skew-seconds"],
    [`${ISSUER}clock-skew-seconds = "5"`, "clock-skew-seconds"],
  ])("refuses %j", (text, what) => {
    const attempt = () => parse(text);
    expect(attempt).toThrow(ConfigError);
    expect(attempt).toThrow(what);
    expect(attempt).toThrow("oidc.toml");
  });
});
