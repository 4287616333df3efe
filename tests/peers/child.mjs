// What every peer has in common: it says when it is ready, and it never outlives the program that started it.

/**
 * Prints one line of JSON, now that the peer accepts connections, and ends the process when stdin closes.
 *
 * Stdin is what matters: it closes also when the parent is killed and cannot clean up. SIGTERM ends the process anyway;
 * here it does so with a clean exit status. Nothing is lost: a peer keeps its data in memory.
 */
export function run(facts) {
  const stop = () => process.exit(0);
  process.once('SIGTERM', stop);
  process.stdin.once('end', stop).resume();
  process.stdout.once('error', stop);
  process.stdout.write(`${JSON.stringify(facts)}\n`);
}
