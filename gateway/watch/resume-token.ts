/**
 * Resume tokens: where in the change logs of its vshards a watch stands. Opaque to clients; good at any gateway
 * of the cluster.
 */
declare const brand: unique symbol;

/** Base64url of what the codec writes; checked when a watch is opened. */
export type ResumeToken = string & { readonly [brand]: "ResumeToken" };
