//! Declared resources: the paths whose values are records by configuration.

use crate::{Limits, Path, PathError};

/// The patterns of a database's declared resources: `sensors/{id}`, `chat/rooms/{room}/messages/{id}`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    patterns: Vec<Pattern>,
}

/// One declared resource: literal segments, and `{name}` for any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    segments: Vec<Option<String>>,
}

/// Why text is no pattern of a resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// No segment, or the whole tree.
    #[error("a resource names at least one segment")]
    Empty,
    /// A segment that is no segment.
    #[error("a resource is a path")]
    Path(#[from] PathError),
    /// A first segment that is the system's.
    #[error("a resource's first segment does not begin with a dot")]
    System,
}

impl Pattern {
    /// Reads `sensors/{id}`, with or without a leading slash.
    ///
    /// # Errors
    /// If it is no path within the limits.
    pub fn parse(text: &str, limits: &Limits) -> Result<Self, PatternError> {
        let text = text.strip_prefix('/').unwrap_or(text);
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        let path = Path::from_segments(text.split('/'), limits)?;
        if path.is_system() {
            return Err(PatternError::System);
        }
        let segments = path.segments().map(|segment| {
            let wild = segment.starts_with('{') && segment.ends_with('}');
            (!wild).then(|| segment.to_owned())
        });
        Ok(Self {
            segments: segments.collect(),
            text: text.to_owned(),
        })
    }

    /// The pattern as it was written, without a leading slash.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a path is such a resource.
    pub fn matches(&self, path: &Path) -> bool {
        path.len() == self.segments.len() && self.matches_above(path)
    }

    /// The literal or `{name}` at a level: none past the end, `Some(None)` for `{name}`.
    pub fn segment(&self, level: usize) -> Option<Option<&str>> {
        self.segments.get(level).map(Option::as_deref)
    }

    /// How many segments the pattern has.
    pub fn len(&self) -> usize {
        self.segments.len()
    }

    /// Never: a pattern has at least one segment.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Whether such resources may lie at or below a path.
    pub fn matches_above(&self, path: &Path) -> bool {
        let mut segments = path.segments();
        for (level, pattern) in self.segments.iter().enumerate() {
            match (segments.next(), pattern) {
                (None, _) => return true,
                // The system's paths are no resources.
                (Some(segment), None) if level > 0 || !segment.starts_with('.') => {}
                (Some(segment), Some(literal)) if segment == literal => {}
                (Some(_), _) => return false,
            }
        }
        segments.next().is_none()
    }
}

impl Declared {
    /// The resources of these patterns.
    pub fn new(patterns: impl IntoIterator<Item = Pattern>) -> Self {
        Self {
            patterns: patterns.into_iter().collect(),
        }
    }

    /// Reads a list of patterns.
    ///
    /// # Errors
    /// If one of them is no pattern.
    pub fn parse<'a>(
        patterns: impl IntoIterator<Item = &'a str>,
        limits: &Limits,
    ) -> Result<Self, PatternError> {
        let patterns = patterns
            .into_iter()
            .map(|text| Pattern::parse(text, limits));
        Ok(Self {
            patterns: patterns.collect::<Result<_, _>>()?,
        })
    }

    /// Whether what lies at exactly this path is a record by declaration.
    pub fn matches(&self, path: &Path) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(path))
    }

    /// Whether a declared record may lie at this path or below it.
    pub fn at_or_below(&self, path: &Path) -> bool {
        self.patterns
            .iter()
            .any(|pattern| pattern.matches_above(path))
    }

    /// The patterns.
    pub fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    /// Whether nothing is declared.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }
}
