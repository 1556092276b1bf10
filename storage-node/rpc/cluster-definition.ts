/** The cluster service as grpc-js wants it, for both sides. All of it is cold: generated code. */
import {
  type DescMessage,
  type DescMethod,
  fromBinary,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import type { MethodDefinition, ServiceDefinition } from "@grpc/grpc-js";
import { ClusterService } from "#proto/gen/minikv/v1/cluster_pb.ts";

type Methods = typeof ClusterService.method;

export type ClusterMethod<K extends keyof Methods> = MethodDefinition<
  MessageShape<Methods[K]["input"]>,
  MessageShape<Methods[K]["output"]>
>;

export type ClusterDefinition = { readonly [K in keyof Methods]: ClusterMethod<K> };

const serializer =
  <D extends DescMessage>(schema: D) =>
  (message: MessageShape<D>): Buffer =>
    Buffer.from(toBinary(schema, message));

const deserializer =
  <D extends DescMessage>(schema: D) =>
  (bytes: Buffer): MessageShape<D> =>
    fromBinary(schema, bytes);

/** Of a method with messages of generated code. */
export function definitionOf(method: DescMethod): ServiceDefinition[string] {
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    requestStream: false,
    responseStream: method.methodKind === "server_streaming",
    requestSerialize: serializer(method.input),
    requestDeserialize: deserializer(method.input),
    responseSerialize: serializer(method.output),
    responseDeserialize: deserializer(method.output),
  };
}

export const CLUSTER_DEFINITION = Object.fromEntries(
  Object.entries(ClusterService.method).map(([name, method]) => [name, definitionOf(method)]),
) as unknown as ClusterDefinition;
