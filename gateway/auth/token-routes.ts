/** Routes of tokens: one for making them, the public keys for whoever verifies them, and rotation. */
import { bodyOf, queryOf, refuseWebPages } from "#gateway/admin/requests.ts";
import type { Answer, Exchange } from "#gateway/http/exchange.ts";
import {
  jsonAnswer,
  type ManagedMethod,
  type ManagedRoute,
  TOKEN_PATH,
} from "#gateway/http/managed-route.ts";
import { malformed, RequestRefused } from "#gateway/http/problem.ts";
import { JWKS_MAX_AGE_SECONDS } from "#shared/limits-tokens.ts";
import type { SigningKeys } from "./signing-keys.ts";
import { TOKEN_REQUEST_MEMBERS, type TokenIssuer } from "./token-issuer.ts";

export type TokenRoutesOptions = {
  readonly tokens: Pick<TokenIssuer, "issue">;
  readonly signingKeys: Pick<SigningKeys, "publicKeySet" | "rotate">;
  readonly issuer: string;
};

export const KEY_SET_PATH = "/.well-known/jwks.json";

export function tokenRoutes(options: TokenRoutesOptions): readonly ManagedRoute[] {
  const { signingKeys, issuer } = options;
  return [
    { path: TOKEN_PATH, methods: new Map([["POST", issueMethod(options)]]) },
    { path: "/admin/tokens/rotate", methods: new Map([["POST", rotateMethod(options)]]) },
    {
      path: KEY_SET_PATH,
      methods: new Map([["GET", publicMethod(() => signingKeys.publicKeySet())]]),
    },
    {
      path: "/.well-known/openid-configuration",
      methods: new Map([["GET", publicMethod(() => discoveryDocument(issuer))]]),
    },
  ];
}

/** Whoever may do anything at all may have it as a token: the least action stands for that. */
const issueMethod = ({ tokens }: TokenRoutesOptions): ManagedMethod => ({
  access: "service.read",
  run: async ({ exchange, caller }) => {
    queryOf(exchange, []);
    const request = await bodyOf(exchange, TOKEN_REQUEST_MEMBERS);
    const { token, expiresInSeconds } = await tokens.issue(caller, request);
    return jsonAnswer(exchange, {
      access_token: token,
      token_type: "Bearer",
      expires_in: expiresInSeconds,
    });
  },
});

const rotateMethod = ({ signingKeys }: TokenRoutesOptions): ManagedMethod => ({
  access: "cluster.change",
  run: async ({ exchange }) => {
    refuseWebPages(exchange);
    queryOf(exchange, []);
    const { revoke = false } = await bodyOf(exchange, ["revoke"]);
    if (typeof revoke !== "boolean") throw malformed("revoke must be true or false");
    const { keyId, signsAtMs } = await signingKeys.rotate(revoke);
    return jsonAnswer(exchange, { kid: keyId, signs_at: new Date(signsAtMs).toISOString() });
  },
});

const publicMethod = (document: () => object): ManagedMethod => ({
  access: "public",
  run: async ({ exchange }) => {
    queryOf(exchange, []);
    return cacheable(exchange, document());
  },
});

function cacheable({ requestId }: Exchange, value: object): Answer {
  const body = JSON.stringify(value);
  const headers = [
    ...["Content-Type", "application/json"],
    ...["Content-Length", String(Buffer.byteLength(body))],
    ...["Cache-Control", `public, max-age=${JWKS_MAX_AGE_SECONDS}`],
    ...["X-Content-Type-Options", "nosniff"],
    ...["X-Request-ID", requestId],
  ];
  return { status: 200, headers, body };
}

/** What a verifier of tokens needs, and no more: nobody can log in here. */
function discoveryDocument(issuer: string): object {
  const url = URL.parse(issuer);
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw new RequestRefused("ROUTE_NOT_FOUND", "the issuer of tokens is no URL here");
  }
  const base = issuer.replace(/\/$/, "");
  return {
    issuer,
    jwks_uri: base + KEY_SET_PATH,
    token_endpoint: base + TOKEN_PATH,
    response_types_supported: ["token"],
    subject_types_supported: ["public"],
    id_token_signing_alg_values_supported: ["EdDSA"],
  };
}
