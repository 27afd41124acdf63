/** An ASCII tree. Pure. */
export interface Branch {
  /** The first line stands at the branch, the others below it. */
  readonly lines: readonly string[];
  readonly children: readonly Branch[];
}

/** The children of a root that the caller has printed already, each line indented by `indent`. */
export function drawBranches(branches: readonly Branch[], indent: string): readonly string[] {
  return branches.flatMap((branch, index) => {
    const last = index === branches.length - 1;
    const trunk = indent + (last ? '    ' : '|   ');
    const [first = '', ...more] = branch.lines;
    return [
      `${indent}${last ? '`-- ' : '+-- '}${first}`,
      ...more.map((line) => trunk + line),
      ...drawBranches(branch.children, trunk),
    ];
  });
}
