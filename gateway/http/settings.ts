/** Settings of the HTTP listener, TLS and CORS among them; the same in every program that serves HTTP. */
import { CORS_ORIGINS_MAX } from "#shared/limits.ts";
import { parseOrigins } from "./cors.ts";

export const httpSettings = {
  httpsCert: {
    key: "https-cert",
    type: "path",
    default: "",
    description: "PEM file of the certificate for HTTP clients. Empty: HTTP without TLS.",
  },
  httpsKey: {
    key: "https-key",
    type: "path",
    default: "",
    description: "PEM file of the private key of that certificate.",
  },
  httpsClientCa: {
    key: "https-client-ca",
    type: "path",
    default: "",
    description:
      "PEM file of the authority whose certificates HTTP clients must show. Empty: none.",
  },
  http2: {
    key: "http2",
    type: "enum",
    values: ["on", "off"],
    default: "on",
    description: "Whether clients of HTTPS are offered HTTP/2 beside HTTP/1.1.",
  },
  corsOrigins: {
    key: "cors-origins",
    type: "string",
    default: "",
    pattern: /^.*$/,
    form: "origin[,origin…], or *",
    description: "Origins whose web pages may send requests. Empty: none.",
  },
} as const;

export type HttpsPaths = {
  readonly httpsCert: string;
  readonly httpsKey: string;
  readonly httpsClientCa: string;
};

export const hasHttps = ({ httpsCert }: HttpsPaths): boolean => httpsCert !== "";

/** What is wrong with the settings together; undefined when nothing is. */
export function refuseHttpConfig(
  config: HttpsPaths & { readonly corsOrigins: string },
): string | undefined {
  const { httpsCert, httpsKey, httpsClientCa, corsOrigins } = config;
  if ((httpsCert === "") !== (httpsKey === "")) {
    return "HTTPS needs both of --https-cert and --https-key";
  }
  if (httpsClientCa !== "" && httpsCert === "") {
    return "--https-client-ca needs HTTPS: --https-cert and --https-key";
  }
  if (parseOrigins(corsOrigins) === undefined) {
    return (
      "--cors-origins takes * or up to " +
      `${CORS_ORIGINS_MAX} origins such as https://app.example, without a path, separated by commas`
    );
  }
  return undefined;
}
