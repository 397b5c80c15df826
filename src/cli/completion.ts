/** `culvert completion bash|zsh|fish`: made from the commands themselves, so it cannot fall behind them. */
import { Argument, type Command } from 'commander';
import type { Cli } from './main.ts';

interface Entry {
  /** "", "lab", "lab up": the words before */
  path: string;
  /** what may follow: subcommands, choices, flags */
  words: { word: string; description: string }[];
}

export function addCompletion(root: Command, cli: Cli): void {
  root
    .command('completion')
    .description('a completion script for your shell, e.g. source <(culvert completion bash)')
    .addArgument(new Argument('<shell>').choices(['bash', 'zsh', 'fish']))
    .action((shell: 'bash' | 'zsh' | 'fish') => {
      cli.io.out({ bash, zsh, fish }[shell](entries(root)));
    });
}

function entries(command: Command, path: string[] = []): Entry[] {
  const children = command.createHelp().visibleCommands(command);
  const words = [
    ...children.map((child) => ({ word: child.name(), description: child.description() })),
    ...command.registeredArguments.flatMap((argument) =>
      (argument.argChoices ?? []).map((word) => ({ word, description: argument.description })),
    ),
    ...command.options
      .filter((option) => option.long !== undefined && !option.hidden)
      .map((option) => ({ word: option.long ?? '', description: option.description })),
  ];
  return [{ path: path.join(' '), words }, ...children.flatMap((child) => entries(child, [...path, child.name()]))];
}

function bash(all: Entry[]): string {
  const cases = all.map((entry) => `    '${entry.path}') words='${entry.words.map((word) => word.word).join(' ')}' ;;`);
  return `# bash completion of culvert
_culvert() {
  local path='' word words=''
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$word" in -*) ;; *) path="\${path:+$path }$word" ;; esac
  done
  case "$path" in
${cases.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _culvert culvert
`;
}

function zsh(all: Entry[]): string {
  const cases = all.map(
    (entry) => `    '${entry.path}') words=(${entry.words.map((word) => `'${word.word}:${quoted(word.description)}'`).join(' ')}) ;;`,
  );
  return `#compdef culvert
_culvert() {
  local -a words_before words
  words_before=(\${\${words[2,CURRENT-1]}:#-*})
  local command="\${(j: :)words_before}"
  words=()
  case "$command" in
${cases.join('\n')}
  esac
  _describe culvert words || _files
}
compdef _culvert culvert
`;
}

function fish(all: Entry[]): string {
  const lines = all.flatMap((entry) =>
    entry.words.map(({ word, description }) => {
      const what = word.startsWith('--') ? `-l ${word.slice(2)}` : `-f -a ${word}`;
      return `complete -c culvert -n "__culvert_at '${entry.path}'" ${what} -d '${quoted(description)}'`;
    }),
  );
  return `# fish completion of culvert
function __culvert_at
  set -l words (commandline -opc)[2..]
  test (string join ' ' -- (string match -v -- '-*' $words)) = "$argv[1]"
end
${lines.join('\n')}
`;
}

function quoted(text: string): string {
  return text.replaceAll("'", '’').replaceAll(':', ' ');
}
