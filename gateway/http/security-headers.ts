/**
 * Headers that every answer has, whoever made it: what a browser must not do with it.
 *
 * Values come from users and may be HTML, and JSON may hold what looks like it. `nosniff` and a sandboxing
 * policy keep all of it from running under this origin; no other site may embed it; and a page that is
 * opened here tells no other site its URL, which has a key in it. Put on where answers leave, so that no route
 * can forget them. A page that needs more says so by a policy of its own.
 */
import { HSTS_MAX_AGE_SECONDS } from "#shared/limits.ts";

/** Names and values in turn. */
const ALWAYS: readonly string[] = [
  ...["X-Content-Type-Options", "nosniff"],
  ...["Content-Security-Policy", "sandbox; default-src 'none'; frame-ancestors 'none'"],
  ...["Cross-Origin-Resource-Policy", "same-origin"],
  ...["Referrer-Policy", "no-referrer"],
];

/** Browsers come back by HTTPS only. They heed it where they trust the certificate, and for names only. */
const WITH_TLS: readonly string[] = [
  ...ALWAYS,
  ...["Strict-Transport-Security", `max-age=${HSTS_MAX_AGE_SECONDS}`],
];

export const securityHeaders = (hasTls: boolean): readonly string[] => (hasTls ? WITH_TLS : ALWAYS);
