/**
 * Loaded into a service by `NODE_OPTIONS=--import`: soon after the job named by CRASH_ON_JOB has begun, something
 * throws where nobody can catch it, as a fault in a library's own callbacks does.
 */
import fs from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { setTimeout } from 'node:timers';

const jobId = process.env.CRASH_ON_JOB;
if (jobId !== undefined && /server\.[jt]s$/.test(process.argv[1] ?? '')) {
  const { mkdir } = fs;
  fs.mkdir = (folder, options) => {
    if (String(folder).endsWith('references') && String(folder).includes(`${jobId}-`))
      setTimeout(() => {
        throw new Error(`the process cannot go on with ${jobId}`);
      }, 100);
    return mkdir(folder, options);
  };
  syncBuiltinESMExports();
}
