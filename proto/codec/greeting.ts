/** What a storage node holds the first message of a gateway's stream against. */
import { isClusterNamed } from "#shared/cluster-map.ts";
import { GrpcStatus } from "#shared/errors.ts";
import type { StreamStatus } from "#shared/message-stream.ts";
import type { Hello } from "./messages.ts";
import { oldProtocol, PROTOCOL_VERSION_MIN } from "./service.ts";

/**
 * With what a stream ends that did not begin as agreed; undefined for a hello that is right.
 *
 * @param isGreeted whether a hello was taken before: there is one in each direction
 */
export function helloRefusal(
  own: Hello,
  theirs: Hello | undefined,
  isGreeted: boolean,
): StreamStatus | undefined {
  const { InvalidArgument, FailedPrecondition } = GrpcStatus;
  if (isGreeted) return { code: InvalidArgument, details: "hello may be said once only" };
  if (theirs === undefined) {
    return { code: InvalidArgument, details: "the first message must carry the hello" };
  }
  const old = oldProtocol("the gateway", theirs, PROTOCOL_VERSION_MIN);
  if (old !== undefined) return { code: FailedPrecondition, details: old };
  if (!isClusterNamed(own.clusterId, theirs.clusterId)) {
    const ids = `"${theirs.clusterId}", this storage node to "${own.clusterId}"`;
    return { code: FailedPrecondition, details: `the gateway belongs to cluster ${ids}` };
  }
  return undefined;
}
