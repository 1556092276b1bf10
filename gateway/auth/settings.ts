/** Settings of authentication; the same in every program that serves HTTP. */
import { AUTH_STALENESS_MS_DEFAULT, AUTH_STALENESS_MS_MAX } from "#shared/limits.ts";
import type { ConfigOf } from "#shared/runtime/config.ts";
import { type HostPort, isLoopback } from "#shared/runtime/config-value.ts";

export const authSettings = {
  auth: {
    key: "auth",
    type: "enum",
    values: ["auto", "required", "off"],
    default: "auto",
    description:
      "Whether requests need credentials; auto: not on this machine alone, unless there is a root key.",
  },
  rootKey: {
    key: "root-key",
    type: "string",
    pattern: /^(mkv_[0-9A-Za-z]{16}_[0-9A-Za-z]{49})?$/,
    form: "an API key, as minikv root-key prints one, or nothing",
    default: "",
    secret: true,
    neverAsFlag: true,
    description:
      "API key of the cluster's administrator; none: the first start makes and shows one.",
  },
  rootKeyFile: {
    key: "root-key-file",
    type: "path",
    default: "",
    description: "File with the API key of the cluster's administrator, instead of root-key.",
  },
  authStalenessMaxMs: {
    key: "auth-staleness-max",
    type: "duration",
    min: 1_000,
    max: AUTH_STALENESS_MS_MAX,
    default: AUTH_STALENESS_MS_DEFAULT,
    description: "Without news of the directory for longer, keys are refused: some may be revoked.",
  },
} as const;

export type AuthConfig = ConfigOf<typeof authSettings>;

/** What is wrong with the settings together; undefined when nothing is. */
export function refuseAuthConfig({ rootKey, rootKeyFile }: AuthConfig): string | undefined {
  if (rootKey === "" || rootKeyFile === "") return undefined;
  return "root-key and root-key-file exclude each other";
}

/** For the line in which a program says that it serves. */
/** For `curl` in what a start prints: what it must send, where it must. */
export const curlAuth = (config: AuthConfig, listen: HostPort): string =>
  isAuthRequired(config, listen) ? ' -H "Authorization: Bearer $ROOT_KEY"' : "";

export const authText = (config: AuthConfig, listen: HostPort): string =>
  isAuthRequired(config, listen) ? "authentication is required" : "authentication is off";

export function isAuthRequired(
  { auth, rootKey, rootKeyFile }: Pick<AuthConfig, "auth" | "rootKey" | "rootKeyFile">,
  listen: HostPort,
): boolean {
  if (auth !== "auto") return auth === "required";
  return rootKey !== "" || rootKeyFile !== "" || !isLoopback(listen.host);
}
