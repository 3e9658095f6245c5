//! Lists that come in pages.

use clap::Args;

use super::{failure::Failure, output::Page};

/// Entries of a page when all pages are wanted.
const LARGEST_PAGE: u32 = 1000;

/// Which part of a list.
#[derive(Debug, Args)]
pub(crate) struct PageArgs {
    /// Entries of one page, 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    page_size: u32,

    /// Where to go on: `next_page_token` of the page before
    #[arg(
        long,
        value_name = "TOKEN",
        default_value = "",
        hide_default_value = true
    )]
    page_token: String,

    /// All pages
    #[arg(long, conflicts_with_all = ["page_size", "page_token"])]
    all: bool,
}

impl PageArgs {
    /// Gets one page, or all of them as one. `get` takes size and token, and
    /// gives items and the token of the next page.
    pub(crate) async fn collect<T>(
        &self,
        mut get: impl AsyncFnMut(u32, String) -> Result<(Vec<T>, String), Failure>,
    ) -> Result<Page<T>, Failure> {
        let size = if self.all {
            LARGEST_PAGE
        } else {
            self.page_size
        };
        let (mut items, mut next) = get(size, self.page_token.clone()).await?;
        while self.all && !next.is_empty() {
            let (more, after) = get(size, next).await?;
            items.extend(more);
            next = after;
        }
        Ok(Page {
            items,
            next_page_token: (!next.is_empty()).then_some(next),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_pages_become_one() {
        let pages = |_: u32, token: String| async move {
            Ok(match token.as_str() {
                "" => (vec![1, 2], "b".to_owned()),
                _ => (vec![3], String::new()),
            })
        };
        let mut args = PageArgs {
            page_size: 2,
            page_token: String::new(),
            all: true,
        };
        let page = args.collect(pages).await.unwrap();
        assert_eq!((page.items, page.next_page_token), (vec![1, 2, 3], None));
        args.all = false;
        let page = args.collect(pages).await.unwrap();
        assert_eq!(
            (page.items, page.next_page_token.as_deref()),
            (vec![1, 2], Some("b"))
        );
    }
}
