/**
 * Writes GGUF files of Qwen2's architecture whose weights say nothing: for measuring speed on a real shape,
 * and for tests that need a model with a known habit. The tokenizer is the pocket model's, filled up to the
 * wanted size.
 *
 *     node dist/tools/qwen-gguf.js FILE [0.5b|small] [bf16|f16|q8_0]
 */
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { readGgufFileInfo } from 'node-llama-cpp';
import { floatToHalf } from '../src/inference/diffusion/floats.js';
import { createGenerator } from '../src/inference/diffusion/random.js';
import { projectRoot } from '../src/lib/project.js';

export interface QwenShape {
  layers: number;
  width: number;
  heads: number;
  kvHeads: number;
  feedForward: number;
  vocabulary: number;
  context: number;
}

/**
 * `0.5b` is Qwen2.5-0.5B's config.json; `small` computes about as long for a token as a sentence of the
 * pocket model needs.
 */
export const shapes = {
  '0.5b': {
    layers: 24,
    width: 896,
    heads: 14,
    kvHeads: 2,
    feedForward: 4864,
    vocabulary: 151_936,
    context: 32_768,
  },
  small: { layers: 12, width: 512, heads: 8, kvHeads: 2, feedForward: 1536, vocabulary: 2048, context: 4096 },
} as const satisfies Record<string, QwenShape>;

export type MatrixType = 'bf16' | 'f16' | 'q8_0';
/** `endless`: random words, never an end. `silent`: every answer ends before its first word. */
export type Habit = 'endless' | 'silent';

export async function writeQwenGguf(
  file: string,
  shape: QwenShape,
  { type = 'q8_0', habit = 'endless' }: { type?: MatrixType; habit?: Habit } = {},
): Promise<void> {
  const out = createWriteStream(file);
  let written = 0;
  const write = async (bytes: Buffer) => {
    written += bytes.length;
    if (!out.write(bytes)) await once(out, 'drain');
  };
  const tensors = tensorsOf(shape, type);
  const values = await metadataOf(shape, type);
  await write(
    Buffer.concat([Buffer.from('GGUF'), u32(3), u64(tensors.length), u64(values.length), ...values]),
  );
  let offset = 0;
  for (const { name, dimensions, typeId, bytes } of tensors) {
    await write(
      Buffer.concat([text(name), u32(dimensions.length), ...dimensions.map(u64), u32(typeId), u64(offset)]),
    );
    offset += padded(bytes);
  }
  await write(Buffer.alloc(padded(written) - written));
  const rows = createRows(type);
  for (const tensor of tensors) {
    if (tensor.typeId === 0)
      await write(floats(tensor.bytes / 4, tensor.name.endsWith('norm.weight') ? 1 : 0));
    else if (tensor.name === 'token_embd.weight')
      for (let token = 0; token < shape.vocabulary; token += 1)
        await write(embeddingRow(token, shape.width, type, habit, rows));
    else
      for (let left = tensor.bytes; left > 0; left -= largestPiece)
        await write(
          habit === 'silent'
            ? Buffer.alloc(Math.min(left, largestPiece))
            : rows(Math.min(left, largestPiece)),
        );
    await write(Buffer.alloc(padded(tensor.bytes) - tensor.bytes));
  }
  out.end();
  await once(out, 'close');
}

const alignment = 32;
/** Divisible by the bytes of a block of each type. */
const largestPiece = 34 * 32 * 1024;
const padded = (bytes: number) => Math.ceil(bytes / alignment) * alignment;
const typeIds = { f32: 0, f16: 1, q8_0: 8, bf16: 30 } as const;
const fileTypes = { f16: 1, q8_0: 7, bf16: 32 } as const;
/** A row of weights in blocks of 32; with eight bits a block has a scale. */
const blockBytes = { bf16: 64, f16: 64, q8_0: 34 } as const;
const bytesOf = (type: MatrixType, count: number) => (count / 32) * blockBytes[type];
/** Special tokens come first in the pocket vocabulary: `<|endoftext|>`, `<|im_start|>`, `<|im_end|>`. */
const specialTokens = 3;
const endToken = 2;

function tensorsOf({ layers, width, heads, kvHeads, feedForward, vocabulary }: QwenShape, type: MatrixType) {
  const keyWidth = (width / heads) * kvHeads;
  const matrix = (name: string, columns: number, rows: number) => ({
    name,
    dimensions: [columns, rows],
    typeId: typeIds[type] as number,
    bytes: bytesOf(type, columns * rows),
  });
  const vector = (name: string, length: number) => ({
    name,
    dimensions: [length],
    typeId: typeIds.f32 as number,
    bytes: length * 4,
  });
  const blocks = Array.from({ length: layers }, (_, layer) => {
    const of = (name: string) => `blk.${layer}.${name}`;
    return [
      vector(of('attn_norm.weight'), width),
      matrix(of('attn_q.weight'), width, width),
      vector(of('attn_q.bias'), width),
      matrix(of('attn_k.weight'), width, keyWidth),
      vector(of('attn_k.bias'), keyWidth),
      matrix(of('attn_v.weight'), width, keyWidth),
      vector(of('attn_v.bias'), keyWidth),
      matrix(of('attn_output.weight'), width, width),
      vector(of('ffn_norm.weight'), width),
      matrix(of('ffn_gate.weight'), width, feedForward),
      matrix(of('ffn_up.weight'), width, feedForward),
      matrix(of('ffn_down.weight'), feedForward, width),
    ];
  });
  return [
    matrix('token_embd.weight', width, vocabulary),
    vector('output_norm.weight', width),
    ...blocks.flat(),
  ];
}

async function metadataOf(
  { layers, width, heads, kvHeads, feedForward, vocabulary, context }: QwenShape,
  type: MatrixType,
): Promise<Buffer[]> {
  const { metadata } = await readGgufFileInfo(path.join(projectRoot(), 'models/pocket/qwen/qwen.gguf'), {
    logWarnings: false,
  });
  const { ggml } = metadata.tokenizer;
  const tokens = [
    ...ggml.tokens,
    ...Array.from({ length: vocabulary - ggml.tokens.length }, (_, index) => `filler${index}`),
  ];
  return [
    ['general.architecture', string('qwen2')],
    ['general.type', string('model')],
    ['general.name', string('Qwen2 of random weights')],
    ['general.file_type', number(fileTypes[type])],
    ['general.quantization_version', number(2)],
    ['qwen2.block_count', number(layers)],
    ['qwen2.context_length', number(context)],
    ['qwen2.embedding_length', number(width)],
    ['qwen2.feed_forward_length', number(feedForward)],
    ['qwen2.attention.head_count', number(heads)],
    ['qwen2.attention.head_count_kv', number(kvHeads)],
    ['qwen2.rope.freq_base', float(1e6)],
    ['qwen2.attention.layer_norm_rms_epsilon', float(1e-6)],
    ['tokenizer.ggml.model', string('gpt2')],
    ['tokenizer.ggml.pre', string('qwen2')],
    ['tokenizer.ggml.tokens', array(8, tokens.map(text))],
    [
      'tokenizer.ggml.token_type',
      array(
        5,
        tokens.map((_, token) => i32(token < specialTokens ? 3 : 1)),
      ),
    ],
    ['tokenizer.ggml.merges', array(8, (ggml.merges as string[]).map(text))],
    ['tokenizer.ggml.eos_token_id', number(endToken)],
    ['tokenizer.ggml.padding_token_id', number(0)],
    ['tokenizer.ggml.add_bos_token', Buffer.concat([u32(7), Buffer.from([0])])],
    ['tokenizer.chat_template', string(metadata.tokenizer.chat_template ?? '')],
  ].map(([key, value]) => Buffer.concat([text(key as string), value as Buffer]));
}

/** Puts a weight at a place of a buffer; `largest` is what the scale of eight bits allows. */
function put(buffer: Buffer, type: MatrixType, index: number, value: number, largest: number): void {
  if (type === 'bf16') buffer.writeUInt16LE(floatToBfloat(value), index * 2);
  else if (type === 'f16') buffer.writeUInt16LE(floatToHalf(value), index * 2);
  else {
    const block = (index >> 5) * blockBytes.q8_0;
    buffer.writeUInt16LE(floatToHalf(largest / 127), block);
    buffer.writeInt8(
      Math.max(-127, Math.min(127, Math.round((value * 127) / largest))),
      block + 2 + (index % 32),
    );
  }
}

function floatToBfloat(value: number): number {
  return new DataView(new Float32Array([value]).buffer).getUint32(0, true) >>> 16;
}

/** Pieces of random weights with a standard deviation of 0.02, cut from one stretch that was drawn once. */
function createRows(type: MatrixType): (bytes: number) => Buffer {
  const normal = createGenerator(1).randn(32 * 1024);
  const stretch = Buffer.alloc(bytesOf(type, normal.length));
  normal.forEach((value, index) => put(stretch, type, index, value * 0.02, 0.08));
  const repeated = Buffer.concat(
    Array.from({ length: Math.ceil(largestPiece / stretch.length) + 1 }, () => stretch),
  );
  let turn = 0;
  return (bytes) => {
    turn = (turn + 977) % (stretch.length / blockBytes[type]);
    return repeated.subarray(turn * blockBytes[type], turn * blockBytes[type] + bytes);
  };
}

/**
 * The matrix is also the output's. `endless`: the end tokens have no weight, so that some other token is
 * always likelier. `silent`: nothing but the first number of a row counts, and the end token's is the
 * largest.
 */
function embeddingRow(
  token: number,
  width: number,
  type: MatrixType,
  habit: Habit,
  rows: (bytes: number) => Buffer,
): Buffer {
  const bytes = bytesOf(type, width);
  if (habit === 'endless') return token < specialTokens ? Buffer.alloc(bytes) : rows(bytes);
  const row = Buffer.alloc(bytes);
  const first = token === endToken ? 8 : 1;
  put(row, type, 0, first, first);
  return row;
}

const fixed = (bytes: number, fill: (buffer: Buffer) => void): Buffer => {
  const buffer = Buffer.alloc(bytes);
  fill(buffer);
  return buffer;
};
const u32 = (value: number) => fixed(4, (buffer) => buffer.writeUInt32LE(value));
const i32 = (value: number) => fixed(4, (buffer) => buffer.writeInt32LE(value));
const u64 = (value: number) => fixed(8, (buffer) => buffer.writeBigUInt64LE(BigInt(value)));
const floats = (count: number, value: number) => Buffer.from(new Float32Array(count).fill(value).buffer);
const text = (value: string) => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);
const string = (value: string) => Buffer.concat([u32(8), text(value)]);
const number = (value: number) => Buffer.concat([u32(4), u32(value)]);
const float = (value: number) => Buffer.concat([u32(6), fixed(4, (buffer) => buffer.writeFloatLE(value))]);
const array = (type: number, items: Buffer[]) =>
  Buffer.concat([u32(9), u32(type), u64(items.length), ...items]);

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , file, shape = '0.5b', type = 'q8_0'] = process.argv;
  if (file === undefined || !Object.hasOwn(shapes, shape) || !Object.hasOwn(fileTypes, type)) {
    process.stderr.write('usage: node dist/tools/qwen-gguf.js FILE [0.5b|small] [bf16|f16|q8_0]\n');
    process.exit(2);
  }
  await writeQwenGguf(file, shapes[shape as keyof typeof shapes], { type: type as MatrixType });
}
