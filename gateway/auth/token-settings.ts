/** Settings of tokens; the same in every program that serves HTTP. */
import {
  TOKEN_KEY_ROTATION_MS_DEFAULT,
  TOKEN_KEY_ROTATION_MS_MAX,
  TOKEN_KEY_ROTATION_MS_MIN,
  TOKEN_TTL_MS_DEFAULT,
  TOKEN_TTL_MS_MAX,
  TOKEN_TTL_MS_MIN,
} from "#shared/limits-tokens.ts";
import type { ConfigOf } from "#shared/runtime/config.ts";

/** Visible ASCII that needs no escape in JSON or in a header. */
const NAME = /^[!#-[\]-~]{1,256}$/;
const NAME_FORM = "1 to 256 visible ASCII characters without quotes and backslashes";

export const tokenSettings = {
  tokenTtlMs: {
    key: "token-ttl",
    type: "duration",
    min: TOKEN_TTL_MS_MIN,
    max: TOKEN_TTL_MS_MAX,
    default: TOKEN_TTL_MS_DEFAULT,
    description: "How long a token is valid, unless less is asked for.",
  },
  tokenAudience: {
    key: "token-audience",
    type: "string",
    pattern: NAME,
    form: NAME_FORM,
    default: "minikv",
    description: "Audience of tokens that are issued, and the only one of them that is taken.",
  },
  tokenIssuer: {
    key: "token-issuer",
    type: "string",
    pattern: NAME,
    form: NAME_FORM,
    default: "minikv",
    description: "Issuer of tokens: the same on all gateways. As a URL it can be discovered.",
  },
  tokenKeyRotationMs: {
    key: "token-key-rotation",
    type: "duration",
    min: TOKEN_KEY_ROTATION_MS_MIN,
    max: TOKEN_KEY_ROTATION_MS_MAX,
    default: TOKEN_KEY_ROTATION_MS_DEFAULT,
    description: "After how long tokens are signed with a new key.",
  },
  oidcFile: {
    key: "oidc-file",
    type: "path",
    default: "",
    description: "TOML file of other issuers whose tokens are taken. Empty: none.",
  },
} as const;

export type TokenConfig = ConfigOf<typeof tokenSettings>;
