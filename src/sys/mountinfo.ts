/** Lines of /proc/PID/mountinfo. */

/** A path as it is: blanks and the like are octal in the kernel's table ("\040"). */
export function unescaped(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(parseInt(digits, 8)));
}
