//! The request line of HTTP/0.9, and which paths in it are served.
//!
//! Strict on purpose: no percent-decoding, no normalising. A path that needs either is refused, so there is one way
//! to name a file, and nothing that looks harmless here and otherwise elsewhere.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use thiserror::Error;

/// The longest request line, its end included, in bytes.
pub const REQUEST_MAX: usize = 4096;

/// A request line that cannot be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RequestError {
    /// More than [`REQUEST_MAX`] bytes and no end.
    #[error("the request line is longer than {REQUEST_MAX} bytes")]
    TooLong,
    /// Something else than `GET` and a space at the beginning.
    #[error("the request does not begin with \"GET \"")]
    NotGet,
    /// The path is not one that is served.
    #[error(transparent)]
    Path(#[from] PathError),
}

/// A path that is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PathError {
    /// No `/` at the beginning.
    #[error("the path does not begin with '/'")]
    NotAbsolute,
    /// Two slashes in a row, one at the end, or nothing but one: no file has such a name.
    #[error("the path has an empty part")]
    EmptyPart,
    /// `.` or `..` between slashes.
    #[error("the path has a part \".\" or \"..\"")]
    Dots,
    /// A control character (NUL among them) or a backslash.
    #[error("the path has a control character or a backslash")]
    Character,
}

/// The file that the path of a request names, relative to the root directory.
///
/// What is returned has one or more parts, none of them empty, `.` or `..`, and no control character.
pub fn relative_path(path: &[u8]) -> Result<&Path, PathError> {
    let relative = path.strip_prefix(b"/").ok_or(PathError::NotAbsolute)?;
    if relative
        .iter()
        .any(|byte| byte.is_ascii_control() || *byte == b'\\')
    {
        return Err(PathError::Character);
    }
    for part in relative.split(|byte| *byte == b'/') {
        match part {
            b"" => return Err(PathError::EmptyPart),
            b"." | b".." => return Err(PathError::Dots),
            _ => {}
        }
    }
    Ok(Path::new(OsStr::from_bytes(relative)))
}

/// A request line being received.
#[derive(Debug, Default)]
pub(crate) struct RequestLine {
    bytes: Vec<u8>,
    complete: bool,
    too_long: bool,
}

impl RequestLine {
    /// Takes the next bytes of the stream; those behind the end of the line are ignored.
    pub(crate) fn take(&mut self, chunk: &[u8]) {
        if self.complete {
            return;
        }
        let line = match chunk.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                self.complete = true;
                chunk.get(..end).unwrap_or_default()
            }
            None => chunk,
        };
        // The end, CR LF, counts too: a line without it has at most two bytes less.
        if self.bytes.len() + line.len() + 1 > REQUEST_MAX {
            self.too_long = true;
            self.complete = true;
            self.bytes = Vec::new();
            return;
        }
        self.bytes.extend_from_slice(line);
    }

    /// The stream has ended, and with it the line.
    pub(crate) fn end(&mut self) {
        self.complete = true;
    }

    /// The file asked for, relative to the root; `None` while the line is not complete.
    pub(crate) fn path(&self) -> Option<Result<&Path, RequestError>> {
        self.complete.then(|| self.parse())
    }

    fn parse(&self) -> Result<&Path, RequestError> {
        if self.too_long {
            return Err(RequestError::TooLong);
        }
        let line = self.bytes.strip_suffix(b"\r").unwrap_or(&self.bytes);
        let path = line.strip_prefix(b"GET ").ok_or(RequestError::NotGet)?;
        Ok(relative_path(path)?)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Component;

    use proptest::prelude::*;

    use super::*;

    fn parse(stream: &[u8]) -> Option<Result<&'static str, RequestError>> {
        let mut line = RequestLine::default();
        line.take(stream);
        let path = line.path()?;
        Some(path.map(|path| {
            &*path
                .to_str()
                .expect("test paths are text")
                .to_owned()
                .leak()
        }))
    }

    #[test]
    fn requests_end_with_the_line() {
        assert_eq!(parse(b"GET /a\r\n"), Some(Ok("a")));
        assert_eq!(parse(b"GET /a/b.txt\n"), Some(Ok("a/b.txt")));
        assert_eq!(parse(b"GET /with space\r\nmore"), Some(Ok("with space")));
        assert_eq!(parse(b"GET /a"), None);
        assert_eq!(parse(b"POST /a\r\n"), Some(Err(RequestError::NotGet)));
        assert_eq!(parse(b"\r\n"), Some(Err(RequestError::NotGet)));
    }

    #[test]
    fn requests_end_with_the_stream() {
        let mut line = RequestLine::default();
        line.take(b"GET ");
        line.take(b"/file");
        assert!(line.path().is_none());
        line.end();
        assert_eq!(line.path(), Some(Ok(Path::new("file"))));
    }

    #[test]
    fn paths_that_are_refused() {
        for (path, error) in [
            (&b"a"[..], PathError::NotAbsolute),
            (b"", PathError::NotAbsolute),
            (b"/", PathError::EmptyPart),
            (b"//etc/passwd", PathError::EmptyPart),
            (b"/a/", PathError::EmptyPart),
            (b"/..", PathError::Dots),
            (b"/a/../b", PathError::Dots),
            (b"/./a", PathError::Dots),
            (b"/..\\a", PathError::Character),
            (b"/a\0b", PathError::Character),
            (b"/a\tb", PathError::Character),
        ] {
            assert_eq!(relative_path(path), Err(error), "{path:?}");
        }
        // Not decoded, so a name like any other.
        assert_eq!(relative_path(b"/%2e%2e/a"), Ok(Path::new("%2e%2e/a")));
        assert_eq!(relative_path(b"/..a/b.."), Ok(Path::new("..a/b..")));
    }

    #[test]
    fn long_lines_are_refused_and_not_kept() {
        let mut line = RequestLine::default();
        line.take(b"GET /");
        for _ in 0..100 {
            line.take(&[b'a'; 100]);
        }
        assert_eq!(line.path(), Some(Err(RequestError::TooLong)));
        assert_eq!(line.bytes.capacity(), 0);

        let mut longest = b"GET /".to_vec();
        longest.resize(REQUEST_MAX - 2, b'a');
        longest.extend(b"\r\n");
        assert!(matches!(parse(&longest), Some(Ok(_))));
    }

    proptest! {
        #[test]
        fn no_path_leads_out(path in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..64),
            "(/|\\.|\\.\\.|a|\\\\|%2e|\n){0,12}".prop_map(String::into_bytes),
        ]) {
            if let Ok(relative) = relative_path(&path) {
                prop_assert!(relative.is_relative());
                prop_assert!(relative.components().all(|part| matches!(part, Component::Normal(_))));
                prop_assert!(!relative.as_os_str().is_empty());
                prop_assert_eq!(relative.as_os_str().as_bytes(), &path[1..]);
            }
        }

        #[test]
        fn lines_may_come_in_any_pieces(
            stream in proptest::collection::vec(any::<u8>(), 0..64),
            prefix in prop_oneof![Just(&b""[..]), Just(&b"GET /"[..])],
            cut in 0usize..64,
        ) {
            let stream = [prefix, &stream].concat();
            let (first, second) = stream.split_at(cut.min(stream.len()));
            let (mut whole, mut pieces) = (RequestLine::default(), RequestLine::default());
            whole.take(&stream);
            pieces.take(first);
            pieces.take(second);
            prop_assert_eq!(whole.path(), pieces.path());
        }
    }
}
