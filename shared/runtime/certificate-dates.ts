/** Until when the certificates are valid that a process uses, so that somebody is told in time. */
import { X509Certificate } from "node:crypto";
import type { WatchedFiles } from "./file-watch.ts";

/** `https` is shown to HTTP clients, `cluster` to gateways and storage nodes. */
export type CertificateUse = "https" | "cluster";

export class CertificateDates {
  readonly #untilMs = new Map<CertificateUse, number>();

  /** Milliseconds since the Unix epoch. */
  get untilMs(): ReadonlyMap<CertificateUse, number> {
    return this.#untilMs;
  }

  /** The certificate in use from now on, PEM. */
  note(use: CertificateUse, pem: Uint8Array): void {
    this.#untilMs.set(use, new X509Certificate(pem).validToDate.getTime());
  }

  /** Files of authority, certificate and key, of which the certificate is noted now and when it changes. */
  watched(use: CertificateUse, files: WatchedFiles): WatchedFiles {
    const noted = ([, cert]: readonly Buffer[]): void => this.note(use, cert!);
    noted(files.current);
    return {
      ...files,
      apply: (contents) => {
        files.apply(contents);
        noted(contents);
      },
    };
  }
}
