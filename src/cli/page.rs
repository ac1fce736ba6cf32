//! The options of the page, and its start.

use std::net::SocketAddr;

use futures::future::BoxFuture;

use super::parse;
use crate::page::access::{Access, TOKEN_VARIABLE};
use crate::page::{self, Page};

/// Where the page is served.
#[derive(clap::Args, Debug)]
pub struct PageArguments {
    /// Where the live page is served; beyond this machine it needs the token that is printed with its address, or that
    /// ACEQUIA_PAGE_TOKEN holds [default: 127.0.0.1:8501, or a free port]
    #[arg(long, value_name = "ADDRESS", env = "ACEQUIA__RUN__PAGE", value_parser = parse::address)]
    page: Option<SocketAddr>,

    /// Serve no page
    #[arg(long, conflicts_with = "page")]
    no_page: bool,
}

impl PageArguments {
    /// Serves no page, unless an address for one was given.
    pub fn leave_out(&mut self) {
        self.no_page |= self.page.is_none();
    }

    /// Begins to listen; gives the page's address, as a browser takes it, and what answers until dropped. `None` when no
    /// page is wanted.
    ///
    /// # Errors
    /// Why it cannot listen, for a person.
    pub async fn begin(&self, page: impl FnOnce() -> Page) -> Result<Option<(String, BoxFuture<'static, ()>)>, String> {
        if self.no_page {
            return Ok(None);
        }
        let listener = page::bind(self.page).await.map_err(|error| error.to_string())?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let access = Access::new(address, std::env::var(TOKEN_VARIABLE).ok()).map_err(|error| error.to_string())?;
        let url = access.url();
        tracing::info!("page on {url}");
        let page = page();
        let serve = async move {
            if let Err(error) = page.serve(listener, access).await {
                tracing::error!("the page has stopped: {error}");
            }
        };
        Ok(Some((url, Box::pin(serve))))
    }
}
