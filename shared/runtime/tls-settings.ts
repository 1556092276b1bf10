/** The settings of TLS as paths: all or none of them. What is in the files: grpc-credentials.ts. */

/** Paths of PEM files; empty for none. */
export type TlsPaths = {
  readonly tlsCa: string;
  readonly tlsCert: string;
  readonly tlsKey: string;
};

export const hasTls = ({ tlsCa, tlsCert, tlsKey }: TlsPaths): boolean =>
  tlsCa !== "" && tlsCert !== "" && tlsKey !== "";

/** What is wrong with a combination of paths, or undefined. */
export function refusePartialTls(paths: TlsPaths): string | undefined {
  const { tlsCa, tlsCert, tlsKey } = paths;
  if (hasTls(paths) || (tlsCa === "" && tlsCert === "" && tlsKey === "")) return undefined;
  return "TLS needs all of --tls-ca, --tls-cert and --tls-key";
}
