"""What is a result, as it was told with the request: the same rules in the same order as `mediasync.sources.selection` has them."""

from mediasync.sources.agent.program.frames import F64, U32, U64

HIDDEN, TEMPORARY, FOREIGN, LINK, SPECIAL, EXTENSION, TOO_SMALL, TOO_LARGE = range(1, 9)
EXCLUDED, NOT_INCLUDED, TOO_YOUNG, TOO_OLD, OUTSIDE = range(9, 14)
# Flags of a rule.
NEGATED, FOLDERS_ONLY = 1, 2


class Selecting:
    """One selection."""

    def __init__(self, fields):
        self.follow = fields.byte()
        self.min_size, self.max_size = fields.number(U64), fields.number(U64)
        self.min_age, self.max_age = fields.number(F64), fields.number(F64)
        self.prefixes, self.suffixes = tuple(fields.texts()), tuple(fields.texts())
        self.names = frozenset(fields.texts())
        self.extensions = tuple(fields.texts())
        self.included, self.excluded = self.rules(fields), self.rules(fields)
        # Whether names alone need more than the three tables, and whether sizes and ages count.
        self.narrow = bool(self.extensions or self.included or self.excluded)
        self.limits = bool(self.min_size or self.max_size or self.min_age or self.max_age)
        self.folder = None
        self.above_included = self.above_excluded = ()
        # Where nothing is taken back, any rule that matches decides: one expression for all of them.
        self.any_included, self.any_excluded = self.joined(self.included), self.joined(self.excluded)

    @staticmethod
    def rules(fields):
        import re

        result = []
        for _ in range(fields.number(U32)):
            flags = fields.byte()
            expression = fields.take(fields.number(U32))
            result.append((bool(flags & NEGATED), bool(flags & FOLDERS_ONLY), re.compile(expression, re.DOTALL)))
        # The last that matches decides.
        return result[::-1]

    @staticmethod
    def joined(rules):
        if not rules or any(negated for negated, _, _ in rules):
            return None
        import re

        expressions = [expression.pattern for _, folders_only, expression in rules if not folders_only]
        return re.compile(b"|".join([b"(?:%s)" % expression for expression in expressions]) or b"(?!)", re.DOTALL)

    @staticmethod
    def above(rules, folder):
        """For each rule, whether `folder` or one above it matches: what is below a folder that matches, matches."""
        folders = []
        while folder:
            folders.append(folder)
            folder = folder.rpartition(b"/")[0]
        return [any(expression.fullmatch(folder) for folder in folders) for _, _, expression in rules]

    def enter(self, folder):
        """What is asked about next is in `folder`."""
        if self.folder != folder:
            self.folder = folder
            self.above_included = self.above(self.included, folder)
            self.above_excluded = self.above(self.excluded, folder)

    @staticmethod
    def matches(rules, above, path, is_folder):
        for (negated, folders_only, expression), higher in zip(rules, above):
            if higher or ((is_folder or not folders_only) and expression.fullmatch(path)):
                return not negated
        return False

    def matches_file(self, rules, above, joined, path):
        if joined is None:
            return self.matches(rules, above, path, False)
        return any(above) or joined.fullmatch(path)

    def folder_reason(self, path, name):
        """Why a folder of the entered one is not looked into; 0 if it is."""
        if name.startswith(self.prefixes):
            return HIDDEN
        if name in self.names:
            return FOREIGN
        # One that a later pattern may take something back from has to be looked into.
        if self.any_excluded is not None and self.matches(self.excluded, self.above_excluded, path, True):
            return EXCLUDED
        return 0

    def name_reason(self, path, name):
        """Why a file of the entered folder is no result, by its name; 0 if it may be one."""
        lowered = name.lower()
        if name.startswith(self.prefixes):
            return HIDDEN
        if lowered.endswith(self.suffixes):
            return TEMPORARY
        if name in self.names:
            return FOREIGN
        return self.narrow_reason(path, lowered)

    def narrow_reason(self, path, lowered):
        """The part of it that is none of the three tables."""
        if self.extensions and not lowered.endswith(self.extensions):
            return EXTENSION
        if self.excluded and self.matches_file(self.excluded, self.above_excluded, self.any_excluded, path):
            return EXCLUDED
        if self.included and not self.matches_file(self.included, self.above_included, self.any_included, path):
            return NOT_INCLUDED
        return 0

    def look_reason(self, size, age):
        """Why a file is no result, by its size and age; 0 if it is one."""
        if size < self.min_size:
            return TOO_SMALL
        if self.max_size and size > self.max_size:
            return TOO_LARGE
        if age < self.min_age:
            return TOO_YOUNG
        if self.max_age and age > self.max_age:
            return TOO_OLD
        return 0
