/** Lines of /proc/PID/mountinfo. */

export interface Mount {
  /** "major:minor" of its file system */
  device: string;
  /** directory of the file system that is mounted: "/" for all of it */
  root: string;
  point: string;
  type: string;
  /** "rw,relatime" of this mount */
  options: string;
}

/** In order of mounting: of several at one point the last one is seen. */
export function mountsOf(mountinfo: string): Mount[] {
  return mountinfo.split('\n').flatMap((line) => {
    const [left = '', right = ''] = line.split(' - ');
    const [, , device, root, point, options] = left.split(' ');
    const [type] = right.split(' ');
    if (device === undefined || root === undefined || point === undefined || options === undefined || type === undefined) return [];
    return [{ device, root: unescaped(root), point: unescaped(point), type, options }];
  });
}

/** A path as it is: blanks and the like are octal in the kernel's table ("\\040"). */
export function unescaped(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(parseInt(digits, 8)));
}
