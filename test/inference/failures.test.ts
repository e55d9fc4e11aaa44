/** What native runtimes throw, as they worded it when it happened. */
import t from 'tap';
import { describeFailure } from '../../src/inference/engine.js';

t.test('texts of native runtimes become codes', (t) => {
  const said = {
    out_of_memory: [
      'Failed to allocate memory for requested buffer of size 1073741824',
      'WebGPU validation failed. [Invalid Buffer (unlabeled)] is invalid due to a previous error.\n - While validating entries[2] against { binding: 2, visibility: ShaderStage::Compute, buffer: {type: BufferBindingType::Storage, minBindingSize: 0, hasDynamicOffset: 0} }.',
      'vkAllocateMemory failed with VK_ERROR_OUT_OF_DEVICE_MEMORY',
      'std::bad_alloc',
      'CUDA failure 2: out of memory ; GPU=0 ; hostname=pod ; expr=cudaMalloc((void**)&p, size);',
      'CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; expr=cublasCreate(&cublas_handle_);',
    ],
    device_lost: [
      'A valid external Instance reference no longer exists: Device was lost',
      'CUDA error: an illegal memory access was encountered',
      'CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; hostname=pod ; file=cuda_stream_handle.cc',
      'CUBLAS failure 14: CUBLAS_STATUS_INTERNAL_ERROR ; GPU=0 ; hostname=pod ; expr=cublasGemmHelper(',
      'CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED ; GPU=0 ; hostname=pod',
    ],
    engine_failed: [
      'the curl error 7',
      'WebGPU validation failed. [Invalid ShaderModule "Conv"] is invalid.',
    ],
  };
  for (const [code, messages] of Object.entries(said))
    for (const message of messages)
      t.equal(describeFailure(new Error(message)).code, code, message.slice(0, 60));
  t.end();
});
