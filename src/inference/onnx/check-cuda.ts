/**
 * `node check-cuda.js`: multiplies, convolves and attends on the card and on the CPU and compares, in a process
 * of its own because a broken driver ends the process. One line of JSON: operator → largest difference, relative
 * to the largest value, and which of them are wrong; exit code 1 with the runtime's reason on stderr when the
 * card does not compute.
 */
import { compareWithCpu, wrongOperators } from './device.js';

try {
  const differences = await compareWithCpu('cuda');
  process.stdout.write(`${JSON.stringify({ differences, wrong: wrongOperators(differences) })}\n`);
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
