/** The gRPC methods spoken with a control plane, for clients and servers of @grpc/grpc-js: paths and (de)serializers. */
import { fromBinary, toBinary, type DescMessage, type MessageShape } from '@bufbuild/protobuf';
import type { MethodDefinition } from '@grpc/grpc-js';
import {
  IstioCertificateRequestSchema,
  IstioCertificateResponseSchema,
  type IstioCertificateRequest,
  type IstioCertificateResponse,
} from '../proto/certificate_pb.js';
import {
  DeltaDiscoveryRequestSchema,
  DeltaDiscoveryResponseSchema,
  type DeltaDiscoveryRequest,
  type DeltaDiscoveryResponse,
} from '../proto/discovery_pb.js';

export const ADDRESS_TYPE = 'type.googleapis.com/istio.workload.Address';
export const AUTHORIZATION_TYPE = 'type.googleapis.com/istio.security.Authorization';

/** Key of `IstioCertificateRequest.metadata`: the identity that a node's tunnel asks for in a workload's stead. */
export const IMPERSONATED_IDENTITY = 'ImpersonatedIdentity';

export function serializer<D extends DescMessage>(schema: D): (message: MessageShape<D>) => Buffer {
  return (message) => {
    const bytes = toBinary(schema, message);
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  };
}

export function deserializer<D extends DescMessage>(schema: D): (bytes: Buffer) => MessageShape<D> {
  return (bytes) => fromBinary(schema, bytes);
}

export const deltaAggregatedResources: MethodDefinition<DeltaDiscoveryRequest, DeltaDiscoveryResponse> = {
  path: '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources',
  requestStream: true,
  responseStream: true,
  requestSerialize: serializer(DeltaDiscoveryRequestSchema),
  requestDeserialize: deserializer(DeltaDiscoveryRequestSchema),
  responseSerialize: serializer(DeltaDiscoveryResponseSchema),
  responseDeserialize: deserializer(DeltaDiscoveryResponseSchema),
};

export const createCertificate: MethodDefinition<IstioCertificateRequest, IstioCertificateResponse> = {
  path: '/istio.v1.auth.IstioCertificateService/CreateCertificate',
  requestStream: false,
  responseStream: false,
  requestSerialize: serializer(IstioCertificateRequestSchema),
  requestDeserialize: deserializer(IstioCertificateRequestSchema),
  responseSerialize: serializer(IstioCertificateResponseSchema),
  responseDeserialize: deserializer(IstioCertificateResponseSchema),
};
