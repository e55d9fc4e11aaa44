/** Health check of the container: fails when the service does not answer, or says that no engine is left. */
const address = `http://127.0.0.1:${process.env.PORT ?? 7860}/health`;
try {
  const answer = await fetch(address, { signal: AbortSignal.timeout(4000) });
  const { status } = await answer.json();
  console.log(status);
  process.exitCode = answer.ok && status !== 'unhealthy' ? 0 : 1;
} catch (error) {
  console.log(`${address} does not answer: ${error.message}`);
  process.exitCode = 1;
}
