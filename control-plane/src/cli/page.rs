//! Lists that come in pages.

use authguardian_terminal::{WatchArgs, watch};
use clap::Args;

use super::{
    failure::Failure,
    output::{Format, Page, Row},
};

/// Entries of a page at most.
const LARGEST_PAGE: u32 = 1000;

/// Which part of a list, and whether to go on looking at it.
#[derive(Debug, Args)]
pub(crate) struct PageArgs {
    /// At most so many entries
    #[arg(long, alias = "page-size", value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,

    /// Where to go on: `next_page_token` of the list before
    #[arg(
        long,
        value_name = "TOKEN",
        default_value = "",
        hide_default_value = true
    )]
    page_token: String,

    /// All entries
    #[arg(long, conflicts_with_all = ["limit", "page_token"])]
    all: bool,

    #[command(flatten)]
    watch: WatchArgs,
}

impl PageArgs {
    /// Writes the entries, once or whenever they changed. `get` takes size and
    /// token, and gives items and the token of the next page.
    pub(crate) async fn show<T: Row>(
        &self,
        output: Format,
        mut get: impl AsyncFnMut(u32, String) -> Result<(Vec<T>, String), Failure>,
    ) -> Result<(), Failure> {
        match self.watch.interval() {
            None => output.page(&self.collect(&mut get).await?),
            Some(every) => {
                let look = async || output.page_sight(&self.collect(&mut get).await?);
                watch(every, output != Format::Table, look).await
            }
        }
    }

    /// Gets as many pages as it takes, as one.
    async fn collect<T>(
        &self,
        get: &mut impl AsyncFnMut(u32, String) -> Result<(Vec<T>, String), Failure>,
    ) -> Result<Page<T>, Failure> {
        let wanted = if self.all {
            usize::MAX
        } else {
            usize::try_from(self.limit).unwrap_or(usize::MAX)
        };
        let (mut items, mut next) = (Vec::new(), self.page_token.clone());
        loop {
            let missing = u32::try_from(wanted - items.len()).unwrap_or(u32::MAX);
            let (more, after) = get(missing.min(LARGEST_PAGE), next).await?;
            items.extend(more);
            next = after;
            if next.is_empty() || items.len() >= wanted {
                break;
            }
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

    fn args(limit: u32, all: bool) -> PageArgs {
        PageArgs {
            limit,
            page_token: String::new(),
            all,
            watch: WatchArgs::default(),
        }
    }

    /// Of a list of 2,500 numbers; the sizes that were asked for, and what came.
    async fn collected(args: &PageArgs) -> (Vec<u32>, Page<u32>) {
        let mut sizes = Vec::new();
        let mut get = async |size: u32, token: String| {
            sizes.push(size);
            let begin: u32 = token.parse().unwrap_or_default();
            let end = (begin + size).min(2_500);
            let next = if end < 2_500 {
                end.to_string()
            } else {
                String::new()
            };
            Ok(((begin..end).collect(), next))
        };
        let page = args.collect(&mut get).await.unwrap();
        (sizes, page)
    }

    #[tokio::test]
    async fn all_pages_become_one() {
        let (sizes, page) = collected(&args(100, true)).await;
        assert_eq!(sizes, [1000, 1000, 1000]);
        assert_eq!((page.items.len(), page.next_page_token), (2_500, None));
    }

    #[tokio::test]
    async fn a_limit_beyond_a_page_is_gathered_from_several() {
        let (sizes, page) = collected(&args(1_200, false)).await;
        assert_eq!(sizes, [1000, 200]);
        assert_eq!(page.items.len(), 1_200);
        assert_eq!(page.next_page_token.as_deref(), Some("1200"));
        let (_, page) = collected(&args(3_000, false)).await;
        assert_eq!((page.items.len(), page.next_page_token), (2_500, None));
    }
}
