import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';

/** The doors to the kernel and to the outside have one owner each; everything else goes through it. */
const addonDoor = {
  group: ['**/addon/**', '**/*.node'],
  allowTypeImports: true,
  message: 'only src/sys/native.ts loads the addon; use the modules of src/sys',
};
const sourcesDoor = {
  selector: "MetaProperty[meta.name='import']",
  message: 'import.meta is empty in the single executable: ask src/sys/assets.ts',
};

export default defineConfig(
  { ignores: ['build/', 'node_modules/', 'src/proto/*_pb.*', '**/*.gen.ts'] },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      eqeqeq: 'error',
      'max-lines': ['error', { max: 400 }],
      'no-console': 'error',
      'no-restricted-globals': ['error', { name: '__dirname', message: 'absent in modules, and not the tree in the single executable' }],
      '@typescript-eslint/no-restricted-imports': ['error', { patterns: [addonDoor] }],
      // Numbers in messages are fine; objects and undefined are not.
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      // `() => emitter.off(…)` as a one-line callback is clear enough.
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      // `while (true)` and `for (;;)` say the same.
      '@typescript-eslint/no-unnecessary-condition': ['error', { allowConstantLoopConditions: 'always' }],
      // A type parameter that only names the result is how a caller says what it reads.
      '@typescript-eslint/no-unnecessary-type-parameters': 'off',
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/consistent-type-imports': ['error', { disallowTypeAnnotations: false }],
      '@typescript-eslint/consistent-type-exports': 'error',
      '@typescript-eslint/no-import-type-side-effects': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
    },
  },
  {
    files: ['src/**/*.ts'],
    ignores: ['src/sys/assets.ts'],
    rules: { 'no-restricted-syntax': ['error', sourcesDoor] },
  },
  {
    files: ['test/**/*.ts', 'scripts/**/*.ts'],
    rules: {
      'no-console': 'off',
      // A test asserts what the types cannot know; a wrong assertion fails it at once.
      '@typescript-eslint/no-non-null-assertion': 'off',
      // A fake answers at once where the real thing would wait.
      '@typescript-eslint/require-await': 'off',
    },
  },
  {
    files: ['test/bpf/**/*.ts', 'test/support/**/*.ts'],
    rules: { '@typescript-eslint/no-restricted-imports': 'off' },
  },
);
