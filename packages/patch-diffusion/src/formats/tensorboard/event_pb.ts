// biome-ignore-all lint: generated
// biome-ignore-all format: generated
// biome-ignore-all assist: generated
// SPDX-License-Identifier: Apache-2.0
// Made of event.proto by @bufbuild/protoc-gen-es 2.17.0 with the options target=ts,import_extension=js. Do not edit:
// `buf generate` makes it anew.

import type { GenEnum, GenFile, GenMessage } from "@bufbuild/protobuf/codegenv2";
import { enumDesc, fileDesc, messageDesc } from "@bufbuild/protobuf/codegenv2";
import type { Message } from "@bufbuild/protobuf";

/**
 * Describes the file event.proto.
 */
export const file_event: GenFile = /*@__PURE__*/
  fileDesc("CgtldmVudC5wcm90bxILdGVuc29yYm9hcmQioQEKBUV2ZW50EhEKCXdhbGxfdGltZRgBIAEoARIMCgRzdGVwGAIgASgDEhYKDGZpbGVfdmVyc2lvbhgDIAEoCUgAEicKB3N1bW1hcnkYBSABKAsyFC50ZW5zb3Jib2FyZC5TdW1tYXJ5SAASLgoLc2Vzc2lvbl9sb2cYByABKAsyFy50ZW5zb3Jib2FyZC5TZXNzaW9uTG9nSABCBgoEd2hhdCJ3CgpTZXNzaW9uTG9nEjUKBnN0YXR1cxgBIAEoDjIlLnRlbnNvcmJvYXJkLlNlc3Npb25Mb2cuU2Vzc2lvblN0YXR1cyIyCg1TZXNzaW9uU3RhdHVzEhYKElNUQVRVU19VTlNQRUNJRklFRBAAEgkKBVNUQVJUEAEi/QIKB1N1bW1hcnkSKQoFdmFsdWUYASADKAsyGi50ZW5zb3Jib2FyZC5TdW1tYXJ5LlZhbHVlGlgKBUltYWdlEg4KBmhlaWdodBgBIAEoBRINCgV3aWR0aBgCIAEoBRISCgpjb2xvcnNwYWNlGAMgASgFEhwKFGVuY29kZWRfaW1hZ2Vfc3RyaW5nGAQgASgMGuwBCgVWYWx1ZRILCgN0YWcYASABKAkSLgoIbWV0YWRhdGEYCSABKAsyHC50ZW5zb3Jib2FyZC5TdW1tYXJ5TWV0YWRhdGESFgoMc2ltcGxlX3ZhbHVlGAIgASgCSAASKwoFaW1hZ2UYBCABKAsyGi50ZW5zb3Jib2FyZC5TdW1tYXJ5LkltYWdlSAASLAoFaGlzdG8YBSABKAsyGy50ZW5zb3Jib2FyZC5IaXN0b2dyYW1Qcm90b0gAEioKBnRlbnNvchgIIAEoCzIYLnRlbnNvcmJvYXJkLlRlbnNvclByb3RvSABCBwoFdmFsdWUicgoPU3VtbWFyeU1ldGFkYXRhEjwKC3BsdWdpbl9kYXRhGAEgASgLMicudGVuc29yYm9hcmQuU3VtbWFyeU1ldGFkYXRhLlBsdWdpbkRhdGEaIQoKUGx1Z2luRGF0YRITCgtwbHVnaW5fbmFtZRgBIAEoCSKHAQoOSGlzdG9ncmFtUHJvdG8SCwoDbWluGAEgASgBEgsKA21heBgCIAEoARILCgNudW0YAyABKAESCwoDc3VtGAQgASgBEhMKC3N1bV9zcXVhcmVzGAUgASgBEhgKDGJ1Y2tldF9saW1pdBgGIAMoAUICEAESEgoGYnVja2V0GAcgAygBQgIQASKzAQoLVGVuc29yUHJvdG8SMAoFZHR5cGUYASABKA4yIS50ZW5zb3Jib2FyZC5UZW5zb3JQcm90by5EYXRhVHlwZRIzCgx0ZW5zb3Jfc2hhcGUYAiABKAsyHS50ZW5zb3Jib2FyZC5UZW5zb3JTaGFwZVByb3RvEhIKCnN0cmluZ192YWwYCCADKAwiKQoIRGF0YVR5cGUSDgoKRFRfSU5WQUxJRBAAEg0KCURUX1NUUklORxAHIlcKEFRlbnNvclNoYXBlUHJvdG8SLgoDZGltGAIgAygLMiEudGVuc29yYm9hcmQuVGVuc29yU2hhcGVQcm90by5EaW0aEwoDRGltEgwKBHNpemUYASABKANiBnByb3RvMw");

/**
 * @generated from message tensorboard.Event
 */
export type Event = Message<"tensorboard.Event"> & {
  /**
   * Unix time in seconds.
   *
   * @generated from field: double wall_time = 1;
   */
  wallTime: number;

  /**
   * @generated from field: int64 step = 2;
   */
  step: bigint;

  /**
   * @generated from oneof tensorboard.Event.what
   */
  what: {
    /**
     * In the first record of a file: "brain.Event:2".
     *
     * @generated from field: string file_version = 3;
     */
    value: string;
    case: "fileVersion";
  } | {
    /**
     * @generated from field: tensorboard.Summary summary = 5;
     */
    value: Summary;
    case: "summary";
  } | {
    /**
     * @generated from field: tensorboard.SessionLog session_log = 7;
     */
    value: SessionLog;
    case: "sessionLog";
  } | { case: undefined; value?: undefined };
};

/**
 * Describes the message tensorboard.Event.
 * Use `create(EventSchema)` to create a new message.
 */
export const EventSchema: GenMessage<Event> = /*@__PURE__*/
  messageDesc(file_event, 0);

/**
 * @generated from message tensorboard.SessionLog
 */
export type SessionLog = Message<"tensorboard.SessionLog"> & {
  /**
   * @generated from field: tensorboard.SessionLog.SessionStatus status = 1;
   */
  status: SessionLog_SessionStatus;
};

/**
 * Describes the message tensorboard.SessionLog.
 * Use `create(SessionLogSchema)` to create a new message.
 */
export const SessionLogSchema: GenMessage<SessionLog> = /*@__PURE__*/
  messageDesc(file_event, 1);

/**
 * @generated from enum tensorboard.SessionLog.SessionStatus
 */
export enum SessionLog_SessionStatus {
  /**
   * @generated from enum value: STATUS_UNSPECIFIED = 0;
   */
  STATUS_UNSPECIFIED = 0,

  /**
   * A program begins, or begins again, at the event's step; what earlier files have from there on does not count.
   *
   * @generated from enum value: START = 1;
   */
  START = 1,
}

/**
 * Describes the enum tensorboard.SessionLog.SessionStatus.
 */
export const SessionLog_SessionStatusSchema: GenEnum<SessionLog_SessionStatus> = /*@__PURE__*/
  enumDesc(file_event, 1, 0);

/**
 * @generated from message tensorboard.Summary
 */
export type Summary = Message<"tensorboard.Summary"> & {
  /**
   * @generated from field: repeated tensorboard.Summary.Value value = 1;
   */
  value: Summary_Value[];
};

/**
 * Describes the message tensorboard.Summary.
 * Use `create(SummarySchema)` to create a new message.
 */
export const SummarySchema: GenMessage<Summary> = /*@__PURE__*/
  messageDesc(file_event, 2);

/**
 * @generated from message tensorboard.Summary.Image
 */
export type Summary_Image = Message<"tensorboard.Summary.Image"> & {
  /**
   * @generated from field: int32 height = 1;
   */
  height: number;

  /**
   * @generated from field: int32 width = 2;
   */
  width: number;

  /**
   * Number of channels.
   *
   * @generated from field: int32 colorspace = 3;
   */
  colorspace: number;

  /**
   * A PNG or JPEG file.
   *
   * @generated from field: bytes encoded_image_string = 4;
   */
  encodedImageString: Uint8Array;
};

/**
 * Describes the message tensorboard.Summary.Image.
 * Use `create(Summary_ImageSchema)` to create a new message.
 */
export const Summary_ImageSchema: GenMessage<Summary_Image> = /*@__PURE__*/
  messageDesc(file_event, 2, 0);

/**
 * @generated from message tensorboard.Summary.Value
 */
export type Summary_Value = Message<"tensorboard.Summary.Value"> & {
  /**
   * @generated from field: string tag = 1;
   */
  tag: string;

  /**
   * @generated from field: tensorboard.SummaryMetadata metadata = 9;
   */
  metadata?: SummaryMetadata | undefined;

  /**
   * @generated from oneof tensorboard.Summary.Value.value
   */
  value: {
    /**
     * @generated from field: float simple_value = 2;
     */
    value: number;
    case: "simpleValue";
  } | {
    /**
     * @generated from field: tensorboard.Summary.Image image = 4;
     */
    value: Summary_Image;
    case: "image";
  } | {
    /**
     * @generated from field: tensorboard.HistogramProto histo = 5;
     */
    value: HistogramProto;
    case: "histo";
  } | {
    /**
     * @generated from field: tensorboard.TensorProto tensor = 8;
     */
    value: TensorProto;
    case: "tensor";
  } | { case: undefined; value?: undefined };
};

/**
 * Describes the message tensorboard.Summary.Value.
 * Use `create(Summary_ValueSchema)` to create a new message.
 */
export const Summary_ValueSchema: GenMessage<Summary_Value> = /*@__PURE__*/
  messageDesc(file_event, 2, 1);

/**
 * @generated from message tensorboard.SummaryMetadata
 */
export type SummaryMetadata = Message<"tensorboard.SummaryMetadata"> & {
  /**
   * @generated from field: tensorboard.SummaryMetadata.PluginData plugin_data = 1;
   */
  pluginData?: SummaryMetadata_PluginData | undefined;
};

/**
 * Describes the message tensorboard.SummaryMetadata.
 * Use `create(SummaryMetadataSchema)` to create a new message.
 */
export const SummaryMetadataSchema: GenMessage<SummaryMetadata> = /*@__PURE__*/
  messageDesc(file_event, 3);

/**
 * @generated from message tensorboard.SummaryMetadata.PluginData
 */
export type SummaryMetadata_PluginData = Message<"tensorboard.SummaryMetadata.PluginData"> & {
  /**
   * Which of TensorBoard's pages shows the value.
   *
   * @generated from field: string plugin_name = 1;
   */
  pluginName: string;
};

/**
 * Describes the message tensorboard.SummaryMetadata.PluginData.
 * Use `create(SummaryMetadata_PluginDataSchema)` to create a new message.
 */
export const SummaryMetadata_PluginDataSchema: GenMessage<SummaryMetadata_PluginData> = /*@__PURE__*/
  messageDesc(file_event, 3, 0);

/**
 * @generated from message tensorboard.HistogramProto
 */
export type HistogramProto = Message<"tensorboard.HistogramProto"> & {
  /**
   * @generated from field: double min = 1;
   */
  min: number;

  /**
   * @generated from field: double max = 2;
   */
  max: number;

  /**
   * @generated from field: double num = 3;
   */
  num: number;

  /**
   * @generated from field: double sum = 4;
   */
  sum: number;

  /**
   * @generated from field: double sum_squares = 5;
   */
  sumSquares: number;

  /**
   * Upper bounds of the buckets, and their counts.
   *
   * @generated from field: repeated double bucket_limit = 6 [packed = true];
   */
  bucketLimit: number[];

  /**
   * @generated from field: repeated double bucket = 7 [packed = true];
   */
  bucket: number[];
};

/**
 * Describes the message tensorboard.HistogramProto.
 * Use `create(HistogramProtoSchema)` to create a new message.
 */
export const HistogramProtoSchema: GenMessage<HistogramProto> = /*@__PURE__*/
  messageDesc(file_event, 4);

/**
 * @generated from message tensorboard.TensorProto
 */
export type TensorProto = Message<"tensorboard.TensorProto"> & {
  /**
   * @generated from field: tensorboard.TensorProto.DataType dtype = 1;
   */
  dtype: TensorProto_DataType;

  /**
   * @generated from field: tensorboard.TensorShapeProto tensor_shape = 2;
   */
  tensorShape?: TensorShapeProto | undefined;

  /**
   * @generated from field: repeated bytes string_val = 8;
   */
  stringVal: Uint8Array[];
};

/**
 * Describes the message tensorboard.TensorProto.
 * Use `create(TensorProtoSchema)` to create a new message.
 */
export const TensorProtoSchema: GenMessage<TensorProto> = /*@__PURE__*/
  messageDesc(file_event, 5);

/**
 * @generated from enum tensorboard.TensorProto.DataType
 */
export enum TensorProto_DataType {
  /**
   * @generated from enum value: DT_INVALID = 0;
   */
  DT_INVALID = 0,

  /**
   * @generated from enum value: DT_STRING = 7;
   */
  DT_STRING = 7,
}

/**
 * Describes the enum tensorboard.TensorProto.DataType.
 */
export const TensorProto_DataTypeSchema: GenEnum<TensorProto_DataType> = /*@__PURE__*/
  enumDesc(file_event, 5, 0);

/**
 * @generated from message tensorboard.TensorShapeProto
 */
export type TensorShapeProto = Message<"tensorboard.TensorShapeProto"> & {
  /**
   * @generated from field: repeated tensorboard.TensorShapeProto.Dim dim = 2;
   */
  dim: TensorShapeProto_Dim[];
};

/**
 * Describes the message tensorboard.TensorShapeProto.
 * Use `create(TensorShapeProtoSchema)` to create a new message.
 */
export const TensorShapeProtoSchema: GenMessage<TensorShapeProto> = /*@__PURE__*/
  messageDesc(file_event, 6);

/**
 * @generated from message tensorboard.TensorShapeProto.Dim
 */
export type TensorShapeProto_Dim = Message<"tensorboard.TensorShapeProto.Dim"> & {
  /**
   * @generated from field: int64 size = 1;
   */
  size: bigint;
};

/**
 * Describes the message tensorboard.TensorShapeProto.Dim.
 * Use `create(TensorShapeProto_DimSchema)` to create a new message.
 */
export const TensorShapeProto_DimSchema: GenMessage<TensorShapeProto_Dim> = /*@__PURE__*/
  messageDesc(file_event, 6, 0);

